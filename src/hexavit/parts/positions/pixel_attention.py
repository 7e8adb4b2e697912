"""Pixel attention: a gate computed by a depth-wise convolution."""

from __future__ import annotations

from hexavit.parts.contract import Tokens
from hexavit.parts.positions.peg import NeighbourhoodPosition
from hexavit.parts.registry import register_part


@register_part("position", "pixel_attention")
class PixelAttention(NeighbourhoodPosition):
    """x sigmoid(depth-wise convolution of x as a map), at a stage's entry (ResT: Zhang & Yang, NeurIPS 2021, section
    3.3, eq. 6, "PA").

    New in it, against PEG: the convolution scales the token instead of being added to it, once per stage. Extra tokens
    are unchanged.

    Shapes: (B, P + H W, C) to the same. Cost with kernel k: parameters (k^2 + 1) C; multiply-adds k^2 C H W.
    Same as wofmanaf/ResT.

    Raises:
        ValueError: an even kernel, which shifts the tokens.
    """

    acts = "tokens"

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + H W, C) to the same."""
        return tokens.with_image(tokens.image * self.neighbourhood(tokens).sigmoid())
