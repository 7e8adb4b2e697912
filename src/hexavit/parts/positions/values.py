"""Positions that act on the values of an attention."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn

from hexavit.errors import nearest
from hexavit.parts.contract import PartModule, Scope, Size
from hexavit.parts.registry import register_part

Reach = Literal["scope", "map"]


class ValuePosition(PartModule):
    """Base of the positions that act on values: `position(scope, values)` is added to the attended values.

    `reach` is the grid of which it gets the values: `scope` for the attention's (a window), `map` for the whole map.
    """

    acts = "values"
    reach: Reach = "scope"

    def forward(self, scope: Size, values: Tensor) -> Tensor:
        """Compute what is added.

        Args:
            scope: (h, w), the grid of the values, with N = h w tokens.
            values: (B', N, h d), heads side by side; B' is the number of images times that of windows.

        Returns:
            (B', N, h d).
        """
        raise NotImplementedError

    def grid(self, size: Size, scope: Scope) -> Size:
        """The grid of all values that it reads of a map of `size`, windows one below the other: what `macs` takes."""
        return size if self.reach == "map" else (scope.windows * scope.queries[0], scope.queries[1])

    def macs_inside(self, size: Size, scope: Scope) -> int:
        """Multiply-adds of all windows, or of the map."""
        return self.macs(self.grid(size, scope))


@register_part("position", "lepe")
class LocallyEnhanced(ValuePosition):
    """Locally-enhanced position encoding: depth-wise convolution of the values (CSWin: Dong et al., CVPR 2022, eq. 7).

    New in it: the position is added behind the softmax, for any size, and depends on the input. Extra tokens get none.

    Args:
        heads: number of heads h of the attention.
        head_dim: width d of one head.
        kernel: side of the convolution, odd.
        reach: `scope` convolves the values of each window, with zeros at its border (CSWin); `map` those of the whole
            map (Glance-and-Gaze: Yu et al., NeurIPS 2021, section 3.3).
        bias: whether the convolution has a bias.

    Shapes: (B', N, h d) to the same. Cost: parameters kernel^2 h d, with `bias` h d more; multiply-adds kernel^2 N h d.

    Raises:
        ValueError: an even kernel, which shifts the tokens, or an unknown reach.
    """

    def __init__(
        self, heads: int, head_dim: int, *, kernel: int = 3, reach: Reach = "scope", bias: bool = True
    ) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {kernel}: an even kernel shifts the tokens")
        if reach not in get_args(Reach):
            raise ValueError(f"there is no reach {reach!r}: {nearest(reach, get_args(Reach))}")
        self.reach, dim = reach, heads * head_dim
        self.conv = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim, bias=bias)

    def forward(self, scope: Size, values: Tensor) -> Tensor:
        """(B', N, h d) to the same."""
        grid = values.contiguous().view(values.shape[0], *scope, values.shape[2])
        out: Tensor = self.conv(grid.permute(0, 3, 1, 2))
        return out.permute(0, 2, 3, 1).reshape(values.shape)

    def macs(self, size: Size, extra: int = 0) -> int:
        """kernel^2 N h d, for the grid of the values."""
        return self.conv.kernel_size[0] ** 2 * self.conv.in_channels * size[0] * size[1]
