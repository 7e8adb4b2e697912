"""Attention parts."""

from hexavit.parts.attention.base import Attention, record_attention, softmax_path
from hexavit.parts.attention.bottleneck import BottleneckAttention, ConvBottleneck
from hexavit.parts.attention.class_attention import ClassAttention
from hexavit.parts.attention.conv_projection import ConvProjection
from hexavit.parts.attention.cross_shaped import CrossShapedAttention
from hexavit.parts.attention.ddf import DecoupledDynamicFilter
from hexavit.parts.attention.depthwise import DepthwiseAttention
from hexavit.parts.attention.evolving import EvolvingAttention, EvolvingConv
from hexavit.parts.attention.local import LocalAttention
from hexavit.parts.attention.local_relation import LocalRelation
from hexavit.parts.attention.longformer import LongformerAttention
from hexavit.parts.attention.messenger_window import MessengerWindowAttention
from hexavit.parts.attention.mixed_heads import ReAttention, TalkingHeads
from hexavit.parts.attention.non_local import NonLocal
from hexavit.parts.attention.performer import PerformerAttention
from hexavit.parts.attention.pooling import PoolingAttention
from hexavit.parts.attention.self_attention import GlobalAttention
from hexavit.parts.attention.sparse import SparseAttention
from hexavit.parts.attention.spatial_reduction import SpatialReduction
from hexavit.parts.attention.window import WindowAttention

__all__ = [
    "Attention",
    "BottleneckAttention",
    "ClassAttention",
    "ConvBottleneck",
    "ConvProjection",
    "CrossShapedAttention",
    "DecoupledDynamicFilter",
    "DepthwiseAttention",
    "EvolvingAttention",
    "EvolvingConv",
    "GlobalAttention",
    "LocalAttention",
    "LocalRelation",
    "LongformerAttention",
    "MessengerWindowAttention",
    "NonLocal",
    "PerformerAttention",
    "PoolingAttention",
    "ReAttention",
    "SparseAttention",
    "SpatialReduction",
    "TalkingHeads",
    "WindowAttention",
    "record_attention",
    "softmax_path",
]
