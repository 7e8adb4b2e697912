"""How each token is transformed."""

from hexavit.parts.feedforward.mlp import MLP

__all__ = ["MLP"]
