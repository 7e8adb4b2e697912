"""Relative positions by height and width, read by the queries."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.parts.contract import Scope, Size
from hexavit.parts.layers import is_tracing, known
from hexavit.parts.positions.relative import LogitPosition
from hexavit.parts.registry import register_part


@register_part("position", "decomposed_relative")
class DecomposedRelative(LogitPosition):
    """Decomposed relative position embedding, added to the logits (MViTv2: Li et al., CVPR 2022, section 3.1, eq. 4;
    BoTNet: Srinivas et al., CVPR 2021, figure 4).

    New in it: the bias depends on the query, and has a row for each offset of rows and one for each offset of columns
    instead of one for each pair: B[i, j] = q_i . R_h[o(row_i, row_j)] + q_i . R_w[o(column_i, column_j)].
    Queries (H, W) and keys (H', W') may be on two grids, whose offsets are counted in steps of the finer one:
    o(i, j) = floor(i max(H' / H, 1) + (H' - 1 - j) max(H / H', 1)). The heads share the tables. For other grids the
    tables are resized linearly, as SlowFast's loader does. Extra tokens get no bias.

    Args:
        head_dim: width d of one head.
        scope: (H, W).
        key_scope: (H', W').
        scaled: whether q is multiplied by d^-0.5 (BoTNet's paper; MViTv2 and timm's BoTNet: not).

    Shapes: gives (B, heads, N, N') for queries (B, heads, N, d), N = H W and N' = H' W'. Cost: parameters
    (2 max(H, H') - 1) d + (2 max(W, W') - 1) d; multiply-adds heads N d (H' + W').
    Same as `rel_pos_h` and `rel_pos_w` of facebookresearch/mvit, SlowFast, timm and detectron2, and as `height_rel` and
    `width_rel` of timm's BoTNet, whose rows are in reverse.
    """

    two_grids = True

    rows: Tensor
    columns: Tensor

    def __init__(self, heads: int, head_dim: int, scope: Size, key_scope: Size, *, scaled: bool = False) -> None:
        super().__init__()
        self.scale = head_dim**-0.5 if scaled else 1.0
        self.heads, self.scope, self.key_scope = heads, scope, key_scope
        self.table_h, self.table_w = (
            nn.Parameter(torch.empty(_length(n, m), head_dim)) for n, m in zip(scope, key_scope, strict=True)
        )
        for table in (self.table_h, self.table_w):
            nn.init.trunc_normal_(table, std=0.02)
        self.init_non_persistent_buffers()

    def forward(self, scope: Size, queries: Tensor | None = None, key_scope: Size | None = None) -> Tensor:
        """The bias (B, heads, N, N')."""
        if queries is None:
            raise ValueError("decomposed_relative needs the queries, which this attention does not give it")
        key_scope = key_scope or scope
        if is_tracing():  # tensors that have values; a script keeps what follows of them
            scope, key_scope = (int(scope[0]), int(scope[1])), (int(key_scope[0]), int(key_scope[1]))
        q = queries.unflatten(2, scope)  # (B, h, H, W, d)
        q = q if self.scale == 1 else q * self.scale
        rows, columns = self._rows(scope, key_scope)
        by_row = _products(q, rows.to(q.dtype))  # (B, h, H, W, H')
        by_column = _products(q.transpose(2, 3), columns.to(q.dtype)).transpose(2, 3)  # (B, h, H, W, W')
        return (by_row[..., :, None] + by_column[..., None, :]).flatten(4).flatten(2, 3)

    def _rows(self, scope: Size, key_scope: Size) -> tuple[Tensor, Tensor]:
        """For each query's and key's row (H, H', d), and for their columns (W, W', d)."""
        if known(*scope, *key_scope) and (tuple(scope), tuple(key_scope)) == (self.scope, self.key_scope):
            return F.embedding(self.rows, self.table_h), F.embedding(self.columns, self.table_w)
        device = self.table_h.device
        tables, grids = (self.table_h, self.table_w), zip(scope, key_scope, strict=True)
        by_axis = [
            F.embedding(pair_offsets(n, m, device), resize_rows(table, _length(n, m)))
            for table, (n, m) in zip(tables, grids, strict=True)
        ]
        return by_axis[0], by_axis[1]

    @torch.no_grad()
    def set_scope(self, scope: Scope) -> None:
        """Resize the tables to other grids."""
        lengths = [_length(n, m) for n, m in zip(scope.queries, scope.keys, strict=True)]
        for name, length in zip(("table_h", "table_w"), lengths, strict=True):
            table: nn.Parameter = getattr(self, name)
            setattr(self, name, nn.Parameter(resize_rows(table, length).clone(), requires_grad=table.requires_grad))
        self.scope, self.key_scope = scope.queries, scope.keys
        self.init_non_persistent_buffers()

    def set_size(self, size: Size) -> None:
        """Resize the tables to another grid of queries and keys alike."""
        self.set_scope(Scope(size, size, self.heads))

    def computed_buffers(self) -> dict[str, Tensor]:
        """The row of a table for each query and key, by axis."""
        pairs = zip(("rows", "columns"), self.scope, self.key_scope, strict=True)
        return {name: pair_offsets(n, m, torch.device("cpu")) for name, n, m in pairs}

    def macs(self, size: Size, extra: int = 0) -> int:
        """heads N d (H' + W'), a window."""
        return self._macs(size, self.key_scope if size == self.scope else size)

    def macs_inside(self, size: Size, scope: Scope) -> int:
        """Multiply-adds of all windows."""
        return scope.windows * self._macs(scope.queries, scope.keys)

    def _macs(self, queries: Size, keys: Size) -> int:
        return self.heads * queries[0] * queries[1] * self.table_h.shape[1] * sum(keys)


def _products(queries: Tensor, keys: Tensor) -> Tensor:
    """Queries (B, h, n, m, d) times keys (n, k, d) of the same row: (B, h, n, m, k)."""
    if torch.compiler.is_exporting():  # engines broadcast the keys, and move values where einsum swaps axes
        return queries @ keys.mT
    return torch.einsum("bhnmd,nkd->bhnmk", queries, keys)


def _length(queries: int, keys: int) -> int:
    """Number of offsets between two grids: 2 max(n, m) - 1."""
    return 2 * _larger(queries, keys) - 1


def _larger(n: int, m: int) -> int:
    """The larger, without a branch where sizes are symbols."""
    return max(n, m) if known(n, m) else torch.sym_max(n, m)  # type: ignore[return-value]  # a symbol is a whole number


def pair_offsets(queries: int, keys: int, device: torch.device) -> Tensor:
    """For n queries and m keys on one axis the row (n, m) of their offset in a table of 2 max(n, m) - 1.

    In float32 and rounded towards 0, as the authors compute it.
    """
    larger = _larger(queries, keys)
    by_query, by_key = larger / queries, larger / keys  # max(m / n, 1) and max(n / m, 1)
    i, j = (torch.arange(n, device=device, dtype=torch.float32) for n in (queries, keys))
    offsets = i[:, None] * by_query - j[None] * by_key
    return (offsets + (keys - 1) * by_key).long()


def resize_rows(table: Tensor, length: int) -> Tensor:
    """A table (L, d) of offsets for another number of them: linear, half-pixel centres."""
    if known(length) and length == table.shape[0]:
        return table
    resized = F.interpolate(table.t()[None].float(), size=length, mode="linear")
    return resized[0].t().to(table.dtype)
