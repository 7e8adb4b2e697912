"""Interchangeable parts of six kinds, and the contract between them.

Nothing here depends on a model, a checkpoint or a file.
"""

from hexavit.parts import attention, feedforward, heads, positions, residual, tokens
from hexavit.parts.attention import Attention, record_attention, softmax_path
from hexavit.parts.contract import PartModule, Size, Tokens
from hexavit.parts.heads import Head
from hexavit.parts.registry import KINDS, build_part, options, part_class, part_names, register_part
from hexavit.parts.residual import Residual

__all__ = [
    "KINDS",
    "Attention",
    "Head",
    "PartModule",
    "Residual",
    "Size",
    "Tokens",
    "attention",
    "build_part",
    "feedforward",
    "heads",
    "options",
    "part_class",
    "part_names",
    "positions",
    "record_attention",
    "register_part",
    "residual",
    "softmax_path",
    "tokens",
]
