"""Tokens that pass to the next stage as they are."""

from __future__ import annotations

from hexavit.parts.contract import PartModule, Tokens
from hexavit.parts.registry import register_part


@register_part("tokens", "keep")
class KeepTokens(PartModule):
    """The tokens of the stage before, extra ones included: for a stage that only changes what its blocks do
    (CaiT's class-attention stage: Touvron et al., ICCV 2021, section 3).

    Shapes: any to the same, widths equal. Cost: none.

    Raises:
        ValueError: the stage has another width than the one before.
    """

    keeps_extra = True

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        if in_dim != dim:
            raise ValueError(f"it keeps a width of {in_dim}, and the stage is {dim} wide: use 'conv', or dim={in_dim}")

    def forward(self, tokens: Tokens) -> Tokens:
        """Any to the same."""
        return tokens
