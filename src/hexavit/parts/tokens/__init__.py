"""How an image becomes tokens, and how tokens become other tokens."""

from hexavit.parts.tokens.conv import ConvTokens
from hexavit.parts.tokens.keep import KeepTokens

__all__ = ["ConvTokens", "KeepTokens"]
