"""Tokens that pass to the next stage unchanged."""

from __future__ import annotations

from hexavit.parts.contract import PartModule, Tokens
from hexavit.parts.registry import register_part


@register_part("tokens", "keep")
class KeepTokens(PartModule):
    """The tokens of the previous stage, extra ones included, for a stage with other blocks
    (CaiT's class-attention stage: Touvron et al., ICCV 2021, section 3).

    Shapes: any to the same, widths equal. Cost: none.

    Raises:
        ValueError: the width differs from the previous stage's.
    """

    keeps_extra = True

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        if in_dim != dim:
            raise ValueError(
                f"a width of {in_dim} cannot be kept in a stage of width {dim}: use 'conv', or dim={in_dim}"
            )

    def forward(self, tokens: Tokens) -> Tokens:
        """Any to the same."""
        return tokens
