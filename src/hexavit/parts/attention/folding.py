"""Folding a sequence or a map into groups of queries, each with the keys that it can reach, and back."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from hexavit.parts.attention.partition import ceil_div
from hexavit.parts.layers import known


class AxisFold(Protocol):
    """How one axis of n tokens is folded: (..., n, ...) to (..., G, Q, ...) and to (..., G, K, ...)."""

    def shape(self, n: int) -> tuple[int, int, int]:
        """Number of groups G, and of each the number of queries Q and of keys K."""

    def queries(self, x: Tensor, axis: int) -> Tensor:
        """The queries of each group; 0 behind the end."""

    def keys(self, x: Tensor, axis: int) -> Tensor:
        """The keys of each group; 0 where there is none."""

    def restore(self, x: Tensor, axis: int, n: int) -> Tensor:
        """The inverse of `queries`."""


class Chunks(NamedTuple):
    """Chunks of tokens that are `step` apart, each with its neighbouring chunks as keys.

    Attributes:
        chunk: number of tokens in a chunk; None for all.
        step: distance of two tokens of a chunk.
        before: number of chunks before its own that a chunk reads.
        after: number of chunks behind its own.
    """

    chunk: int | None = None
    step: int = 1
    before: int = 0
    after: int = 0

    def _fitted(self, n: int) -> tuple[int, int, int, int]:
        """Chunks of each residue, tokens of a chunk, and `before` and `after`; one chunk reads no other."""
        length = ceil_div(n, self.step)
        if self.chunk is None or (known(length) and self.chunk >= length):
            return 1, length, 0, 0
        return ceil_div(length, self.chunk), self.chunk, self.before, self.after

    def shape(self, n: int) -> tuple[int, int, int]:
        count, chunk, before, after = self._fitted(n)
        return self.step * count, chunk, chunk * (1 + before + after)

    def queries(self, x: Tensor, axis: int) -> Tensor:
        count, chunk, _, _ = self._fitted(x.shape[axis])
        x = _padded(x, axis, 0, count * chunk * self.step - x.shape[axis])
        apart: Tensor = x.unflatten(axis, (count, chunk, self.step))
        return apart.movedim(axis + 2, axis).flatten(axis, axis + 1)

    def keys(self, x: Tensor, axis: int) -> Tensor:
        count, chunk, before, after = self._fitted(x.shape[axis])
        side = chunk * self.step
        x = _padded(x, axis, before * side, (count + after) * side - x.shape[axis])
        x = x.unflatten(axis, (before + count + after, chunk, self.step)).movedim(axis + 2, axis)
        near = [x.narrow(axis + 1, start, count) for start in range(before + after + 1)]
        return torch.cat(near, dim=axis + 2).flatten(axis, axis + 1)

    def restore(self, x: Tensor, axis: int, n: int) -> Tensor:
        x = x.unflatten(axis, (self.step, self._fitted(n)[0])).movedim(axis, axis + 2).flatten(axis, axis + 2)
        return x.narrow(axis, 0, n)


class Summaries(NamedTuple):
    """All tokens as one group, whose keys are the last `last` tokens of each block of `block` (None: of all)."""

    block: int | None
    last: int

    def _blocks(self, n: int) -> tuple[int, int]:
        return (1, n) if self.block is None else (ceil_div(n, self.block), self.block)

    def shape(self, n: int) -> tuple[int, int, int]:
        return 1, n, self._blocks(n)[0] * self.last

    def queries(self, x: Tensor, axis: int) -> Tensor:
        return x.unsqueeze(axis)

    def keys(self, x: Tensor, axis: int) -> Tensor:
        blocks, block = self._blocks(x.shape[axis])
        x = _padded(x, axis, 0, blocks * block - x.shape[axis]).unflatten(axis, (blocks, block))
        return x.narrow(axis + 1, block - self.last, self.last).flatten(axis, axis + 1).unsqueeze(axis)

    def restore(self, x: Tensor, axis: int, n: int) -> Tensor:
        return x.squeeze(axis)


Folds = tuple[AxisFold, ...]
"""One for each axis: of the sequence, or of the map."""


def fold(x: Tensor, folds: Folds, what: str) -> Tensor:
    """Fold (B, *grid, C) to the `queries` or the `keys` of all groups: (B G, Q, C) or (B G, K, C)."""
    for i, each in enumerate(folds):
        x = (each.queries if what == "queries" else each.keys)(x, 1 + 2 * i)
    x = x if len(folds) == 1 else x.transpose(2, 3)  # (B, G, G', Q, Q', C)
    return x.flatten(0, len(folds)).flatten(1, len(folds))


def unfold(x: Tensor, batch: int, folds: Folds, grid: tuple[int, ...]) -> Tensor:
    """The inverse of `fold` for queries: (B G, Q, C) to (B, N, C)."""
    shapes = [each.shape(n) for each, n in zip(folds, grid, strict=True)]
    x = x.reshape(batch, *(groups for groups, _, _ in shapes), *(queries for _, queries, _ in shapes), x.shape[2])
    x = x if len(folds) == 1 else x.transpose(2, 3)
    for i, (each, n) in enumerate(zip(folds, grid, strict=True)):
        x = each.restore(x, 1 + i, n)
    return x.flatten(1, len(folds))


def numbers(grid: tuple[int, ...], folds: Folds, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """The numbers of all tokens as folded, row by row: queries (G, Q, 1) and keys (G, 1, K), -1 where there is none."""
    every = torch.arange(1, math.prod(grid) + 1, device=device).view(1, *grid, 1)
    queries, keys = (fold(every, folds, what)[:, :, 0] - 1 for what in ("queries", "keys"))
    return queries[:, :, None], keys[:, None]


def pairs(grid: tuple[int, ...], folds: Folds, keys: bool = True) -> int:
    """Number of pairs of a query and a key in all groups, or without `keys` of queries; the padding included."""
    shapes = [each.shape(n) for each, n in zip(folds, grid, strict=True)]
    return math.prod(groups * queries * (reach if keys else 1) for groups, queries, reach in shapes)


def _padded(x: Tensor, axis: int, before: int, after: int) -> Tensor:
    if known(before, after) and not (before or after):
        return x
    return F.pad(x, (*(0, 0) * (x.ndim - axis - 1), before, after))
