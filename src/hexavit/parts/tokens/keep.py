"""Tokens that pass to the next stage unchanged."""

from __future__ import annotations

from hexavit.parts.contract import PartModule, Tokens
from hexavit.parts.registry import register_part


@register_part("tokens", "keep")
class KeepTokens(PartModule):
    """The tokens of the previous stage, extra ones included, for a stage with other blocks
    (CaiT's class-attention stage: Touvron et al., ICCV 2021, section 3).

    The width stays, too: where the stage has another, a part of its first block must change it (MViTv2's attention).

    Shapes: any to the same. Cost: none.
    """

    keeps_extra = True

    def __init__(self, in_dim: int) -> None:
        super().__init__()
        self.out_dim = in_dim

    def forward(self, tokens: Tokens) -> Tokens:
        """Any to the same."""
        return tokens
