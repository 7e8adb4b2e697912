"""Tokens parts: from an image to tokens, and from tokens to other tokens."""

from hexavit.parts.tokens.bottleneck_stem import BottleneckStem
from hexavit.parts.tokens.conv import ConvTokens
from hexavit.parts.tokens.conv_stem import ConvStem
from hexavit.parts.tokens.keep import KeepTokens
from hexavit.parts.tokens.merging import PatchMerging
from hexavit.parts.tokens.messengers import MessengerConv, MessengerMerging
from hexavit.parts.tokens.progressive_sampling import ProgressiveSampling
from hexavit.parts.tokens.reduction_cell import ReductionCell
from hexavit.parts.tokens.resolutions import AddResolution, JoinResolutions
from hexavit.parts.tokens.token_learner import TokenFuser, TokenLearner, TokenLearnerV1
from hexavit.parts.tokens.tokens_to_token import TokensToToken
from hexavit.parts.tokens.words import WordTokens

__all__ = [
    "AddResolution",
    "BottleneckStem",
    "ConvStem",
    "ConvTokens",
    "JoinResolutions",
    "KeepTokens",
    "MessengerConv",
    "MessengerMerging",
    "PatchMerging",
    "ProgressiveSampling",
    "ReductionCell",
    "TokenFuser",
    "TokenLearner",
    "TokenLearnerV1",
    "TokensToToken",
    "WordTokens",
]
