"""Where the norms and the residuals stand."""

from hexavit.parts.residual.norms import ExtraOnly, LocalResidual, PostNorm, PreNorm, Residual

__all__ = ["ExtraOnly", "LocalResidual", "PostNorm", "PreNorm", "Residual"]
