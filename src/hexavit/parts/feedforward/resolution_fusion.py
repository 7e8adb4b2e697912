"""Exchange between maps of several resolutions."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.parts.contract import PartModule, Size, Tokens, halves, lower_names, rows
from hexavit.parts.layers import known
from hexavit.parts.registry import register_part
from hexavit.parts.tokens.resolutions import resolutions, with_resolutions


@register_part("feedforward", "resolution_fusion")
class ResolutionFusion(PartModule):
    """Each resolution becomes relu(sum_j f_ij(x_j)) of all of them (multi-resolution fusion: HRNet, Wang et al., TPAMI
    2020, section 3.1; HRFormer: Yuan et al., NeurIPS 2021, section 3).

    f_ii is the identity. From a lower resolution j f_ij is a 1x1 convolution, batch norm, and the nearest of 2^(j - i)
    times as many places; where the sides do not divide, that is resized to x_i bilinearly with aligned corners. From a
    higher one it is i - j steps of a 3x3 depth-wise convolution of stride 2, batch norm, a 1x1 convolution and batch
    norm, with a ReLU after all but the last; only the last changes the width.

    For the highest resolution the branch is the sum without x_0: the residual around it is `post_act`. It needs
    `add_resolution` in its stage. For extra tokens the branch is 0.

    Shapes: (B, P + H W, C) to the same, and each lower map to the same. Cost: parameters and multiply-adds of the
    convolutions, each at its output places.
    Same as `fuse_layers` of HRNet/HRFormer, up to the order of the sum.

    Raises:
        ValueError: there is no lower resolution.
    """

    needs = "raster"
    reads_grid = True
    joins_resolutions = True
    takes: ClassVar[tuple[str, ...]] = ("resolution1",)
    gives: ClassVar[tuple[str, ...]] = ("resolution1",)

    def __init__(self, dim: int, lower: tuple[int, ...]) -> None:
        super().__init__()
        if not lower:
            raise ValueError("the stage has one resolution: use tokens=add_resolution")
        widths = (dim, *lower)
        count = range(len(widths))
        self.takes = self.gives = lower_names(len(lower))  # type: ignore[misc]  # as many as there are
        self.paths = nn.ModuleList(nn.ModuleList(_path(widths, i, j) for j in count) for i in count)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + H W, C) and the lower maps to the same."""
        maps = resolutions(tokens, len(self.gives))
        sums = [self._sum(i, maps) for i in range(len(maps))]
        fused = [sums[0], *(F.relu(x + branch) for x, branch in zip(maps[1:], sums[1:], strict=True))]
        held = tokens.extra
        out = with_resolutions(tokens, fused)
        return out if held is None else out.replace_extra(torch.zeros_like(held))

    def _sum(self, i: int, maps: list[Tensor]) -> Tensor:
        """The terms of resolution i but for its own map."""
        row: nn.ModuleList = self.paths[i]  # type: ignore[assignment]  # a ModuleList is untyped
        total = torch.zeros_like(maps[i]) if not len(row) else None
        for j, path in enumerate(row):
            if i != j:
                term = path(maps[j])
                term = _enlarged(term, 2 ** (j - i), maps[i].shape[2:]) if j > i else term
                total = term if total is None else total + term
        assert total is not None  # there is another resolution
        return total

    def keep(self, wanted: Collection[int]) -> None:
        """Remove what gives other resolutions than those wanted, which then stay as they are."""
        for i in range(len(self.paths)):
            if i not in wanted:
                self.paths[i] = nn.ModuleList().train(self.training)

    def macs(self, size: Size, extra: int = 0) -> int:
        """The weights of convolutions at every output place."""
        places = [rows(each, 0) for each in halves(size, len(self.gives))]
        total = 0
        for i, row in enumerate(self.paths):
            for j, path in enumerate(row.children()):
                for step, convs in enumerate(path.children()):
                    at = places[j] if j > i else places[j + step + 1]
                    total += at * sum(m.weight.numel() for m in convs.modules() if isinstance(m, nn.Conv2d))
        return total


def _path(widths: tuple[int, ...], i: int, j: int) -> nn.Sequential:
    """f_ij without its resizing."""
    if j > i:
        return nn.Sequential(nn.Conv2d(widths[j], widths[i], 1, bias=False), nn.BatchNorm2d(widths[i]))
    return nn.Sequential(*(_step(widths[j], widths[i], k == i - j - 1) for k in range(i - j)))


def _step(in_dim: int, dim: int, last: bool) -> nn.Sequential:
    dim = dim if last else in_dim
    return nn.Sequential(
        nn.Conv2d(in_dim, in_dim, 3, stride=2, padding=1, groups=in_dim, bias=False),
        nn.BatchNorm2d(in_dim),
        nn.Conv2d(in_dim, dim, 1, bias=False),
        nn.BatchNorm2d(dim),
        nn.Identity() if last else nn.ReLU(),
    )


def _enlarged(x: Tensor, factor: int, size: torch.Size) -> Tensor:
    """The nearest of `factor` times as many places, then bilinear to a size, which is the identity for that size."""
    h, w = x.shape[2] * factor, x.shape[3] * factor
    x = F.interpolate(x, size=(h, w), mode="nearest")
    if known(h, w, *size) and (h, w) == tuple(size):
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)
