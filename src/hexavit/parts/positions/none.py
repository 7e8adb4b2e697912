"""No position encoding."""

from __future__ import annotations

from hexavit.parts.contract import PartModule, Tokens
from hexavit.parts.registry import register_part


@register_part("position", "none")
class NoPosition(PartModule):
    """No position encoding. CvT uses none, because its zero-padded convolutions encode positions (Wu et al., ICCV 2021,
    section 4.4 and table 5).

    Shapes: any to the same. Cost: none.
    """

    acts = "none"

    def forward(self, tokens: Tokens) -> Tokens:
        """Any to the same."""
        return tokens
