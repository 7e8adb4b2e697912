"""Feedforward parts."""

from hexavit.parts.feedforward.conv_mlp import ConvMLP
from hexavit.parts.feedforward.conv_module import ConvModule
from hexavit.parts.feedforward.depthwise import DepthwiseConv
from hexavit.parts.feedforward.inner_transformer import InnerTransformer
from hexavit.parts.feedforward.mlp import MLP, ExcitedMLP
from hexavit.parts.feedforward.resolution_fusion import ResolutionFusion

__all__ = ["MLP", "ConvMLP", "ConvModule", "DepthwiseConv", "ExcitedMLP", "InnerTransformer", "ResolutionFusion"]
