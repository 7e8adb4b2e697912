"""Position parts: tables, relative biases, convolutional encodings."""

from hexavit.parts.positions.decomposed import DecomposedRelative
from hexavit.parts.positions.none import NoPosition
from hexavit.parts.positions.peg import PEG
from hexavit.parts.positions.pixel_attention import PixelAttention
from hexavit.parts.positions.relative import ContinuousBias, LogitPosition, RelativeBias
from hexavit.parts.positions.spatial_gate import SpatialGate
from hexavit.parts.positions.tables import LearnedPosition, SineCosinePosition
from hexavit.parts.positions.values import LocallyEnhanced, ValuePosition

__all__ = [
    "PEG",
    "ContinuousBias",
    "DecomposedRelative",
    "LearnedPosition",
    "LocallyEnhanced",
    "LogitPosition",
    "NoPosition",
    "PixelAttention",
    "RelativeBias",
    "SineCosinePosition",
    "SpatialGate",
    "ValuePosition",
]
