"""Relative position biases: added to the logits of an attention, by the offset of query and key on its scope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.errors import nearest
from hexavit.parts.contract import PartModule, Size
from hexavit.parts.layers import Memory
from hexavit.parts.plain import altered, unwatched
from hexavit.parts.registry import register_part

Spacing = Literal["log", "linear"]


class LogitPosition(PartModule):
    """Base of the positions that act on logits: `position(scope, queries)` gives what is added to q k^T.

    `scope` (h, w) is the grid on which an attention's queries and keys meet: a window, or the whole map. A bias that
    does not depend on the queries is computed once in evaluation: on the CPU it is kept beside the values that it came
    of, and is used while these are equal.
    """

    acts = "logits"

    def __init__(self) -> None:
        super().__init__()
        self._kept = Memory(most=1)

    def forward(self, scope: Size, queries: Tensor | None = None) -> Tensor:
        """The bias (h, N, N) of N = h w tokens, row the query and column the key; queries (B, h, N, d) are not read
        here, but may be by others, whose bias is then (B, h, N, N)."""
        if self.training or not unwatched() or not self._on_cpu() or altered(self):
            return self.bias(scope)
        values, bias = self._kept.get(scope, ([], None))
        if bias is None or not all(_same(*pair) for pair in zip(values, self.parameters(), strict=True)):
            bias = self.bias(scope)
            self._kept[scope] = [p.detach().clone() for p in self.parameters()], bias
        out: Tensor = bias
        return out

    def bias(self, scope: Size) -> Tensor:
        """The bias (h, N, N), computed."""
        raise NotImplementedError

    def _follow(self) -> None:
        """Make anew what follows of the scope alone, where the weights are and in their precision."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._follow()  # what moved with them may be rounded (`bfloat16()`) or empty (`to_empty`)
        return self

    def _on_cpu(self) -> bool:
        return all(p.device.type == "cpu" for p in self.parameters())


@register_part("position", "relative_bias")
class RelativeBias(LogitPosition):
    """A learned number for each head and offset, added to the logits (Swin: Liu et al., ICCV 2021, eq. 4).

    B[i, j] = table[row_i - row_j + h - 1, column_i - column_j + w - 1], query minus key, on the attention's scope
    (h, w): its window, or the whole map. Swin V2 calls it the parameterised bias. For another scope the table is
    resized bicubically over its offsets, as the authors' loader does. Extra tokens get no bias.

    Shapes: gives (heads, N, N) for the logits (B, heads, N, N), N = h w. Cost: parameters (2 h - 1) (2 w - 1) heads;
    multiply-adds none.
    Same as `relative_position_bias_table` of microsoft/Swin-Transformer, timm, torchvision and transformers.
    """

    no_decay = ("table",)

    def __init__(self, heads: int, scope: Size) -> None:
        super().__init__()
        self.heads, self.scope = heads, scope
        self.table = nn.Parameter(torch.empty((2 * scope[0] - 1) * (2 * scope[1] - 1), heads))
        nn.init.trunc_normal_(self.table, std=0.02)
        self.register_buffer("index", None, persistent=False)
        self._follow()

    index: Tensor

    def bias(self, scope: Size) -> Tensor:
        """The bias (h, N, N), computed."""
        if _is(scope, self.scope):
            return _gathered(self.table, self.index)
        return _gathered(self.table_at(scope), offset_index(scope, self.table.device))

    def table_at(self, scope: Size) -> Tensor:
        """The table ((2 h - 1) (2 w - 1), heads) for another scope (h, w)."""
        return resize_offsets(self.table, self.scope, scope)

    @torch.no_grad()
    def set_size(self, size: Size) -> None:
        """Make the table one of another scope, its values resized."""
        if size != self.scope:
            self.table = nn.Parameter(self.table_at(size), requires_grad=self.table.requires_grad)
            self.scope = size
            self._follow()

    def _follow(self) -> None:
        self.index = offset_index(self.scope, self.table.device)


@register_part("position", "continuous_bias")
class ContinuousBias(LogitPosition):
    """A small network of the offset gives each head's bias (Swin V2: Liu et al., CVPR 2022, section 3.3, eq. 3 and 4).

    New in it: a bias for any window from the same weights. B = 16 sigmoid(W2 relu(W1 t + b1)) with t, for an offset d
    and t' = 8 d / (p - 1) on each axis, sign(t') log2(1 + |t'|) / 3 (`spacing=log`) or t' / 8 (`linear`, the paper's
    ablation); p is `pretrained_window`, by default the scope's own side. With another window p stays that of the
    pre-training, so that equal offsets keep equal biases.

    Shapes: gives (heads, N, N) for the logits (B, heads, N, N), N = h w. Cost with O = (2 h - 1) (2 w - 1) offsets:
    parameters 3 `hidden` + `hidden` heads; multiply-adds O (2 `hidden` + `hidden` heads), once a forward pass, and
    none while it is kept in evaluation.
    Same as `cpb_mlp` of microsoft/Swin-Transformer, timm and transformers; torchvision's has no `pretrained_window`.

    Raises:
        ValueError: an unknown spacing, or a negative window.
    """

    no_decay = ("fc1.weight", "fc2.weight")

    def __init__(
        self, heads: int, scope: Size, *, spacing: Spacing = "log", pretrained_window: int = 0, hidden: int = 512
    ) -> None:
        super().__init__()
        if spacing not in get_args(Spacing):
            raise ValueError(f"there is no spacing {spacing!r}: {nearest(spacing, get_args(Spacing))}")
        if pretrained_window < 0 or hidden < 1:
            raise ValueError(
                f"pretrained_window is at least 0 and hidden at least 1, not {pretrained_window} and {hidden}"
            )
        self.heads, self.scope, self.spacing, self.pretrained_window = heads, scope, spacing, pretrained_window
        self.fc1, self.fc2 = nn.Linear(2, hidden), nn.Linear(hidden, heads, bias=False)
        self.register_buffer("offsets", None, persistent=False)
        self.register_buffer("index", None, persistent=False)
        self._follow()

    offsets: Tensor
    index: Tensor

    def bias(self, scope: Size) -> Tensor:
        """The bias (h, N, N), computed."""
        known = _is(scope, self.scope)
        offsets = self.offsets if known else self._offsets(scope).to(self.offsets)
        index = self.index if known else offset_index(scope, self.index.device)
        return _gathered(16 * self.fc2(F.relu(self.fc1(offsets))).sigmoid(), index)

    def _offsets(self, scope: Size) -> Tensor:
        return scaled_offsets(scope, self.spacing, self.pretrained_window)

    def set_size(self, size: Size) -> None:
        """Compute the offsets of another scope."""
        self.scope = size
        self._follow()

    def _follow(self) -> None:
        self.offsets = self._offsets(self.scope).to(self.fc1.weight)
        self.index = offset_index(self.scope, self.fc1.weight.device)

    def macs(self, size: Size, extra: int = 0) -> int:
        """O (2 hidden + hidden heads), `size` being the scope."""
        count = (2 * size[0] - 1) * (2 * size[1] - 1)
        return count * self.fc1.out_features * (2 + self.heads)


def scaled_offsets(scope: Size, spacing: Spacing = "log", pretrained_window: int = 0) -> Tensor:
    """What `ContinuousBias` reads of a grid (h, w): its offsets ((2 h - 1) (2 w - 1), 2), row by row."""
    sides = []
    for n in scope:
        farthest = max((pretrained_window or n) - 1, 1)
        t = 8 * torch.arange(1 - n, n, dtype=torch.float32, device="cpu") / farthest
        sides.append(t.sign() * torch.log2(t.abs() + 1) / 3 if spacing == "log" else t / 8)
    rows, columns = sides
    grid = torch.broadcast_tensors(rows[:, None], columns[None])
    return torch.stack(grid, dim=-1).flatten(0, 1)


def offset_index(scope: Size, device: torch.device | None = None) -> Tensor:
    """For each query and key of a grid (h, w) the row (N, N) of their offset, query minus key, in a table of
    (2 h - 1) (2 w - 1)."""
    h, w = scope
    rows = torch.arange(h, device=device)[:, None].expand(h, w).flatten()
    columns = torch.arange(w, device=device)[None].expand(h, w).flatten()
    return (rows[:, None] - rows + h - 1) * (2 * w - 1) + columns[:, None] - columns + w - 1


def resize_offsets(table: Tensor, scope: Size, new: Size) -> Tensor:
    """A table ((2 h - 1) (2 w - 1), heads) of offsets on one grid for another: bicubic, half-pixel centres."""
    if _is(new, scope):
        return table.clone()
    image = table.t().unflatten(1, (2 * scope[0] - 1, 2 * scope[1] - 1))[None]
    image = F.interpolate(image.float(), size=(2 * new[0] - 1, 2 * new[1] - 1), mode="bicubic")
    return image[0].flatten(1).t().to(table.dtype)


def _gathered(table: Tensor, index: Tensor) -> Tensor:
    """Rows of (O, h) by (N, N) as (h, N, N)."""
    return F.embedding(index, table).permute(2, 0, 1).contiguous()


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)


def _is(size: Size, known: Size) -> bool:
    """Whether a size is this one; a traced size has no value to compare."""
    return all(isinstance(n, int) for n in size) and tuple(size) == tuple(known)
