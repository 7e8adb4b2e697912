"""CPVT: "Conditional Positional Encodings for Vision Transformers", Chu et al., ICLR 2023 (arXiv 2102.10882).

Origin: the position encoding generator (PEG) is from Meituan-AutoML/Twins (Apache-2.0), by the same authors. CPVT's
own repository contains only a README. The trunk is DeiT's, as in the paper. No checkpoint is published; the key names
are a convention of this library.

What is new against DeiT: a depth-wise convolution (PEG) after the first block, or after each of the first five
(`_peg5`), replaces the position table. No weight depends on the image size. `_gap` models average the tokens and have
no class token.

Shapes at 224: as ViT.

Cost: 1.254 G multiply-adds for Ti, 4.600 G for S, 17.571 G for B with five PEGs.

Same as the description in the paper. That the base and `_gap` models have five PEGs is this library's reading of it.
"""

from __future__ import annotations

from typing import Any

from hexavit.architecture import Architecture, Part, Pattern
from hexavit.models.isotropic import isotropic
from hexavit.models.registry import Family, Published

PAPER = "https://arxiv.org/abs/2102.10882"
_PAPER = "CPVT, paper's tables (as recalled)"

# name, width, heads, generators, pooled, millions of parameters, top-1
_VARIANTS = (
    ("cpvt_tiny", 192, 3, 1, False, 6, 0.724),
    ("cpvt_tiny_peg5", 192, 3, 5, False, 6, 0.734),
    ("cpvt_tiny_gap_peg5", 192, 3, 5, True, 6, 0.749),
    ("cpvt_small", 384, 6, 1, False, 22, 0.799),
    ("cpvt_small_peg5", 384, 6, 5, False, 23, 0.805),
    ("cpvt_small_gap_peg5", 384, 6, 5, True, 23, 0.815),
    ("cpvt_base_peg5", 768, 12, 5, False, 88, 0.823),
    ("cpvt_base_gap_peg5", 768, 12, 5, True, 88, 0.827),
)

_FAMILY = Family("cpvt", PAPER)


def _cpvt(name: str, dim: int, depth: int, heads: int, generators: int, **options: Any) -> Architecture:
    position = Pattern([Part("none")], at={k: Part("peg") for k in range(generators)})
    return isotropic(name, dim, depth, heads, position=position, drop_path=0.1, **options)


for _name, _dim, _heads, _pegs, _pooled, _params, _top1 in _VARIANTS:
    _FAMILY.register(
        _cpvt(_name, _dim, 12, _heads, _pegs, head="pool" if _pooled else "class_token"),
        f"CPVT-{_name.split('_')[1].replace('tiny', 'Ti')[:2].rstrip('ma')}{'-GAP' * _pooled}, PEG after {_pegs}",
        Published(_PAPER, 224, _params, top1=_top1),
    )
_FAMILY.register_nano(_cpvt("cpvt_nano", 96, 4, 3, 1, patch=8, img_size=32), "CPVT at half a million")
