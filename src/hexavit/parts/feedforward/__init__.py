"""Feedforward parts."""

from hexavit.parts.feedforward.conv_mlp import ConvMLP
from hexavit.parts.feedforward.mlp import MLP

__all__ = ["MLP", "ConvMLP"]
