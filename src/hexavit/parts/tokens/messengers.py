"""Tokens with messengers: a convolution that brings one for each window, and one that takes them along."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from hexavit.parts.contract import Size, Tokens
from hexavit.parts.messengers import split_messengers, window_grid
from hexavit.parts.registry import register_part
from hexavit.parts.tokens.conv import ConvTokens


class WithMessengers(ConvTokens):
    """Base of both: the number of messengers is that of windows."""

    brings_extra = True
    window: int

    def extra_out(self, extra: int, size: Size) -> int:
        """ceil(H' / M) x ceil(W' / M)."""
        return math.prod(window_grid(size, self.window))


@register_part("tokens", "messenger_conv")
class MessengerConv(WithMessengers):
    """A convolution as `conv`, and one learned messenger token for each window of its map (MSG-Transformer: Fang et
    al., CVPR 2022, section 3.1).

    New in it: extra tokens that belong to places of the map. S^2 messengers are learned, one for each place in a region
    of S x S windows of M x M tokens; all regions and images start with the same. They stand row by row over the grid of
    windows; of regions at the border those that are on the map.

    Shapes: (B, H, W, C_in) to (B, H' W', C) and ceil(H' / M) x ceil(W' / M) extra tokens. Cost: as `conv`, and S^2 C
    parameters.

    Args:
        kernel: side of the convolution.
        stride: of the convolution.
        padding: of the convolution.
        norm: of the image tokens, as in `conv`.
        eps: epsilon of the norm, None for the model's.
        window: side M of a window; that of the attention.
        region: side S of a region; that of the residual `messenger_exchange`.

    Raises:
        ValueError: as `conv`, and a window or a region below 1.
        ArchitectureError: on a call, a grid that is smaller than the kernel.
    """

    def __init__(
        self,
        in_dim: int,
        dim: int,
        norm_eps: float,
        *,
        kernel: int,
        stride: int,
        padding: int = 0,
        norm: bool | Literal["batch"] = True,
        eps: float | None = None,
        window: int = 7,
        region: int = 4,
    ) -> None:
        super().__init__(in_dim, dim, norm_eps, kernel=kernel, stride=stride, padding=padding, norm=norm, eps=eps)
        if window < 1 or region < 1:
            raise ValueError(f"window and region are at least 1, not {window} and {region}")
        self.window, self.region = window, region
        self.messengers = nn.Parameter(torch.empty(1, region**2, dim))
        nn.init.trunc_normal_(self.messengers, std=0.02)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, H, W, C_in) to (B, H' W', C) and the messengers."""
        out = super().forward(tokens)
        rows, columns = (
            torch.arange(n, device=self.messengers.device) % self.region for n in window_grid(out.size, self.window)
        )
        place = (rows[:, None] * self.region + columns).flatten()
        return out.with_extra(F.embedding(place, self.messengers[0]).expand(out.image.shape[0], -1, -1))


@register_part("tokens", "messenger_merging")
class MessengerMerging(WithMessengers):
    """One padded convolution with LayerNorm for the map and for the grid of messengers (MSG-Transformer: Fang et al.,
    CVPR 2022, section 3.1).

    New in it: windows keep their side M, so that a stride of 2 leaves a quarter of the windows and of the messengers.

    Shapes: (B, H, W, C_in) with ceil(H / M) x ceil(W / M) messengers to (B, H', W', C) with ceil(H' / M) x
    ceil(W' / M), H' = ceil(H / stride). Cost: parameters kernel^2 C_in C + 3 C; multiply-adds kernel^2 C_in C for each
    token and messenger that comes out.

    Args:
        kernel: side of the convolution, odd; the padding is kernel // 2.
        stride: of the convolution.
        window: side M of a window.

    Raises:
        ValueError: an even kernel, or a stride or a window below 1.
    """

    needs_messengers = True

    def __init__(
        self,
        in_dim: int,
        dim: int,
        norm_eps: float,
        *,
        kernel: int = 3,
        stride: int = 2,
        window: int = 7,
    ) -> None:
        if kernel < 1 or kernel % 2 == 0 or window < 1:
            raise ValueError(f"kernel must be odd and window at least 1, not {kernel} and {window}")
        super().__init__(in_dim, dim, norm_eps, kernel=kernel, stride=stride, padding=kernel // 2)
        self.window = window

    def forward(self, tokens: Tokens) -> Tokens:
        """The map and the grid of messengers, each by the same convolution."""
        grid = window_grid(tokens.size, self.window)
        _, held = split_messengers(tokens, grid)
        merged = super().forward(Tokens(held, grid)).image
        return super().forward(tokens).with_extra(merged)

    def macs(self, size: Size, extra: int = 0) -> int:
        """kernel^2 C_in C for each token and messenger that comes out."""
        return super().macs(size) + super().macs(window_grid(size, self.window))
