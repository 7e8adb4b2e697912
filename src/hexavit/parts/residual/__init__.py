"""Residuals: norm, skip and sum around a branch."""

from hexavit.parts.residual.exchange import MessengerExchange
from hexavit.parts.residual.norms import ExtraOnly, LocalResidual, PostNorm, PreNorm, Residual, ResidualPostNorm
from hexavit.parts.residual.post_act import PostActivation
from hexavit.parts.residual.scales import Fixup, ReZero, SkipInit

__all__ = [
    "ExtraOnly",
    "Fixup",
    "LocalResidual",
    "MessengerExchange",
    "PostActivation",
    "PostNorm",
    "PreNorm",
    "ReZero",
    "Residual",
    "ResidualPostNorm",
    "SkipInit",
]
