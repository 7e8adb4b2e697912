"""Patch merging: neighbouring tokens concatenated, and a linear."""

from __future__ import annotations

from typing import Literal

from torch import nn
from torch.nn import functional as F

from hexavit.parts.contract import PartModule, Size, Tokens
from hexavit.parts.layers import known
from hexavit.parts.registry import register_part
from hexavit.parts.reshaping import reshaped


@register_part("tokens", "patch_merging")
class PatchMerging(PartModule):
    """2 x 2 neighbours concatenated to 4 C_in, then a linear to C without bias (Swin: Liu et al., ICCV 2021,
    section 3.1).

    The order is (even row, even column), (odd, even), (even, odd), (odd, odd). `norm` is `before` the linear, over
    4 C_in (Swin), or `after` it, over C (Swin V2), or a `batch` norm over C_in before the concatenation (Shuffle
    Transformer: Huang et al., 2021, whose 2x2 convolution of stride 2 is such a linear). An odd map is padded with
    zeros at the bottom and at the right, as Swin's detection code does; its classification code raises an error for it.

    Shapes: (B, H, W, C_in) to (B, ceil(H / 2), ceil(W / 2), C). Cost: parameters 4 C_in C, and 8 C_in, 2 C or
    2 C_in of the norm; multiply-adds 4 C_in C H' W'.
    Same as microsoft/Swin-Transformer's, timm's, torchvision's and transformers'.
    """

    needs = "raster"
    reads_grid = True
    keeps_extra = False

    def __init__(
        self, in_dim: int, dim: int, norm_eps: float, *, norm: Literal["before", "after", "batch"] = "before"
    ) -> None:
        super().__init__()
        self.norms = norm
        self.norm: nn.Module = nn.BatchNorm2d(in_dim, eps=norm_eps)
        if norm != "batch":
            self.norm = nn.LayerNorm(4 * in_dim if norm == "before" else dim, eps=norm_eps)
        self.reduction = nn.Linear(4 * in_dim, dim, bias=False)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, H, W, C_in) to (B, H', W', C)."""
        (h, w), grid = tokens.size, tokens.grid
        if self.norms == "batch":
            grid = self.norm(tokens.map).permute(0, 2, 3, 1)
        if not known(h, w) or h % 2 or w % 2:
            grid = F.pad(grid, (0, 0, 0, w % 2, 0, h % 2))
        size = grid.shape[1] // 2, grid.shape[2] // 2
        batch, dim = grid.shape[0], grid.shape[3]
        x = reshaped(grid, (batch, size[0]), 2, size[1], 2, dim)  # (B, H', row, W', column, C_in)
        x = reshaped(x.permute(0, 1, 3, 4, 2, 5), (batch, size[0] * size[1]), 4 * dim)
        x = self.reduction(self.norm(x) if self.norms == "before" else x)
        x = self.norm(x) if self.norms == "after" else x
        return Tokens(x, size, carry=tokens.carry)

    def out_size(self, size: Size) -> Size:
        """ceil(H / 2), ceil(W / 2)."""
        return (size[0] + 1) // 2, (size[1] + 1) // 2

    def macs(self, size: Size, extra: int = 0) -> int:
        """4 C_in C H' W'."""
        h, w = self.out_size(size)
        return self.reduction.weight.numel() * h * w
