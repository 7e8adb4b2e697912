"""Head parts: from the last tokens to class logits."""

from hexavit.parts.heads.heads import ClassTokenHead, Head, MessengerHead, PoolHead
from hexavit.parts.heads.layer_class_attention import LayerClassAttention
from hexavit.parts.heads.two_heads import TokenLabelHead, TwoHeads

__all__ = ["ClassTokenHead", "Head", "LayerClassAttention", "MessengerHead", "PoolHead", "TokenLabelHead", "TwoHeads"]
