"""Explanation: attention maps on the pixel grid, rollout, class activation maps, and analyses with figures."""

from hexavit.explain import analyses, figures
from hexavit.explain.attention import AttentionMap, attention_maps, attention_matrix
from hexavit.explain.methods import METHODS, Attribution, Curve, attribute, deletion_insertion, target_layer
from hexavit.explain.pictures import Explained, explain_image, overlay, page
from hexavit.explain.rollout import gradient_rollout, rollout

__all__ = [
    "METHODS",
    "AttentionMap",
    "Attribution",
    "Curve",
    "Explained",
    "analyses",
    "attention_maps",
    "attention_matrix",
    "attribute",
    "deletion_insertion",
    "explain_image",
    "figures",
    "gradient_rollout",
    "overlay",
    "page",
    "rollout",
    "target_layer",
]
