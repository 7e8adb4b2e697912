"""Where the norms and the residuals stand."""

from hexavit.parts.residual.norms import PostNorm, PreNorm, Residual

__all__ = ["PostNorm", "PreNorm", "Residual"]
