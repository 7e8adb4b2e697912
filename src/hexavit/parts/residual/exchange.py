"""A residual behind which messenger tokens exchange channels."""

from __future__ import annotations

import torch

from hexavit.parts.contract import Tokens
from hexavit.parts.messengers import exchanged, split_messengers, window_grid
from hexavit.parts.registry import register_part
from hexavit.parts.residual.norms import Branch, PreNorm


@register_part("residual", "messenger_exchange")
class MessengerExchange(PreNorm):
    """Pre-norm; behind the sum around the attention the messengers of each region of S x S windows exchange channels
    (MSG-Transformer: Fang et al., CVPR 2022, section 3.2).

    New in it: windows hear of each other at no cost. With channels in S^2 groups, group k of messenger g becomes group
    g of messenger k. A region at the border of the map may have fewer windows; groups that would come from a missing
    one stay. Around the feedforward it is `pre_norm`.

    Shapes: (B, P + H W, C) to the same, the last W of the P extra tokens those of the W windows. Cost: parameters 2 C;
    multiply-adds none.
    Same as hustvl/MSG-Transformer's, but for stochastic depth, which drops a branch for a whole image here and for each
    region there.

    Args:
        window: side M of a window in tokens, that of the attention.
        region: side S of a region in windows; 1 for no exchange.

    Raises:
        ValueError: a window or a region below 1, S^2 that does not divide C, or a branch with a smaller grid.
    """

    needs_messengers = True
    reads_grid = True  # extra and image tokens are read apart
    reads_source = False

    def __init__(
        self,
        dim: int,
        stride: int,
        norm_eps: float,
        drop_path: float,
        role: str,
        *,
        window: int = 7,
        region: int = 4,
    ) -> None:
        super().__init__(dim, stride, norm_eps, drop_path)
        if window < 1 or region < 1 or dim % region**2:
            raise ValueError(
                f"a region of {region} x {region} windows of {window} cuts channels in {region**2} groups, which does "
                f"not divide the width {dim}: use region=1"
            )
        if stride > 1:
            raise ValueError(f"messengers have no place in a grid that is {stride} times smaller: use pre_norm")
        self.role, self.window, self.region = role, window, region

    def forward(self, tokens: Tokens, branch: Branch, source: Tokens | None = None) -> Tokens:
        """x to x + branch(norm(x)), and around the attention the exchange."""
        out = super().forward(tokens, branch)
        if self.role != "attention" or self.region == 1:
            return out
        grid = window_grid(out.size, self.window)
        others, messengers = split_messengers(out, grid)
        return out.replace_extra(torch.cat((others, exchanged(messengers, grid, self.region)), dim=1))
