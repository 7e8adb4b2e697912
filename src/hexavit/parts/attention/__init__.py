"""How tokens look at each other."""

from hexavit.parts.attention.base import Attention, record_attention, softmax_path
from hexavit.parts.attention.conv_projection import ConvProjection
from hexavit.parts.attention.self_attention import GlobalAttention

__all__ = ["Attention", "ConvProjection", "GlobalAttention", "record_attention", "softmax_path"]
