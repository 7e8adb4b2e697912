"""Explanation: attention maps on the pixel grid, rollout, class activation maps, and analyses of a model."""

from hexavit.explain.attention import AttentionMap, attention_maps, attention_matrix

__all__ = ["AttentionMap", "attention_maps", "attention_matrix"]
