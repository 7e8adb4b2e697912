"""Reads the attention weights of a model, fused or not, and puts them on the grids of its maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hexavit.errors import HexavitError
from hexavit.network.backbone import Backbone
from hexavit.network.block import Block
from hexavit.parts.attention import Attention
from hexavit.parts.attention.places import Places, Weights
from hexavit.parts.contract import Size, Tokens
from hexavit.parts.feedforward.inner_transformer import InnerTransformer

PIECE = 2**23
"""Number of weights that are computed at a time."""


Change = Callable[[int, slice, slice, Tensor], Tensor]
"""From the number of a call, a slice of its windows, one of its queries and their weights (w, h, n, M) to others."""


class AttentionPart(NamedTuple):
    """An attention part of a block.

    Attributes:
        path: of the module.
        stage: number of the stage.
        block: number of the block in its stage.
        part: the module.
        host: of attention among the words of a patch (TNT), the part of the patches in which it is.
    """

    path: str
    stage: int
    block: int
    part: Attention
    host: InnerTransformer | None = None


def attention_parts(model: nn.Module, *, words: bool = False) -> list[AttentionPart]:
    """The attention parts of a model's blocks, in the order of the forward pass.

    Of a model with several resolutions those of the lower ones come first in their block. Convolutions in the place of
    an attention (`conv_bottleneck`) have no weights and are left out.

    Args:
        model: a model.
        words: with attention among the words of a patch, whose tokens are others than the block's.
    """
    found: list[AttentionPart] = []

    def add(block: Block, path: str, stage: int, number: int) -> None:
        for r, lower in enumerate(block.lower_blocks, 1):
            add(lower, f"{path}.lower.{r}", stage, number)
        for branch in block.branches:
            if isinstance(branch.part, Attention):
                found.append(AttentionPart(f"{path}.{branch.name}", stage, number, branch.part))
            elif words and isinstance(branch.part, InnerTransformer):
                inner = f"{path}.{branch.name}.attention"
                found.append(AttentionPart(inner, stage, number, branch.part.attention, branch.part))

    for s, stage in enumerate(backbone_of(model).stage_modules):
        for b, block in enumerate(stage.typed_blocks):
            add(block, f"stages.{s}.blocks.{b}", s, b)
    return found


def backbone_of(model: Any) -> Backbone:
    """The model itself, or that of a `LoadedModel` or of a `FeatureBackbone`.

    Raises:
        HexavitError: it is no model of hexavit.
    """
    held = model if isinstance(model, Backbone) else getattr(model, "model", None)
    if not isinstance(held, Backbone):
        raise HexavitError(f"only models of hexavit.create_model can be explained, not a {type(model).__name__}")
    return held


@dataclass
class Reading:
    """What an attention part computed for one image.

    Attributes:
        part: the module.
        path: its path.
        size: grid of the tokens that came in.
        extra: number of extra tokens.
        calls: its weights, one for each call.
        shares: of tokens that are no raster (points, a set), the share that each has of the cells of the map before
            them, (N, H, W); else None.
    """

    part: Attention
    path: str
    size: Size = (0, 0)
    extra: int = 0
    calls: list[Weights] = field(default_factory=list)
    shares: Tensor | None = None

    @cached_property
    def places(self) -> tuple[Places, ...]:
        """Where the queries and keys of each call stand."""
        found = self.part.places(self.size, self.extra)
        device = self.calls[0].rows(slice(0, 1), slice(0, 1)).device
        return tuple(Places(each.queries.to(device), each.keys.to(device), each.heads) for each in found)

    @cached_property
    def heads(self) -> int:
        """Number of maps: heads, or channels of filters."""
        whole = [w.shape[1] for w, p in zip(self.calls, self.places, strict=True) if p.heads == slice(None)]
        return max(whole) if whole else self.part.heads

    @cached_property
    def query_grid(self) -> Size:
        """Grid of the queries."""
        return self.part.query_grid(self.size)

    @cached_property
    def cell_grid(self) -> Size:
        """Grid of the cells on which maps are shown."""
        return self.size if self.shares is None else (self.shares.shape[1], self.shares.shape[2])

    @cached_property
    def queries(self) -> int:
        """Number of queries, extra tokens included."""
        return self.extra + math.prod(self.query_grid)

    @cached_property
    def keys(self) -> int:
        """Number of keys, extra tokens included."""
        return self.extra + sum(math.prod(grid.size) for grid in self.part.key_grids(self.size))

    @cached_property
    def asked(self) -> Tensor:
        """Whether each query has a row in the map (P + N,): image tokens have none in class attention."""
        found = torch.zeros(self.queries, dtype=torch.bool, device=self.places[0].queries.device)
        for places in self.places:
            found[places.queries[places.queries >= 0]] = True
        return found

    def combined(self, queries: Tensor, change: Change | None = None) -> Tensor:
        """Sum the rows of the map, each times a factor.

        Args:
            queries: the factor of each query (P + N,).
            change: applied to weights before they are summed.

        Returns:
            (h, P + M + 1), the last value that of padding.
        """
        queries = self.without_means(queries.float())
        total = torch.zeros(self.heads, self.keys + 1, device=queries.device)
        for number, (weights, places) in enumerate(zip(self.calls, self.places, strict=True)):
            factors = queries[places.queries.clamp(min=0)] * (places.queries >= 0)  # (W, N)
            for windows, rows in _pieces(weights.shape, factors != 0):
                piece, factor = weights.rows(windows, rows).float(), factors[windows, rows]
                piece = piece if change is None else change(number, windows, rows, piece)
                if places.keys.shape[1] == 1:
                    values = torch.einsum("whnm,wn->hwm", piece, factor)
                    index = places.keys[windows, 0]
                else:
                    values = (piece * factor[:, None, :, None]).transpose(0, 1)
                    index = places.keys[windows, rows]
                total[places.heads] += values.new_zeros(values.shape[0], self.keys + 1).index_add(
                    1, _or_last(index, self.keys).flatten(), values.flatten(1)
                )
        return total

    def row_sums(self, change: Change) -> Tensor:
        """The sum of each row of the map, in the mean over heads: (P + N,), 0 for queries without a row."""
        total = torch.zeros(self.queries + 1, device=self.places[0].queries.device)
        for number, (weights, places) in enumerate(zip(self.calls, self.places, strict=True)):
            for windows, rows in _pieces(weights.shape, places.queries >= 0):
                piece = change(number, windows, rows, weights.rows(windows, rows).float())
                index = _or_last(places.queries[windows, rows], self.queries)
                total.index_add_(0, index.flatten(), piece.sum(dim=(1, 3)).flatten() / self.heads)
        return total[:-1]

    def rows(self, numbers: Tensor) -> Tensor:
        """Rows of the map.

        Args:
            numbers: of the queries (n,): extra tokens first, then the cells of the query grid row by row.

        Returns:
            (h, n, P + M + 1), the last column that of padding.
        """
        slot = torch.full((self.queries,), -1, device=numbers.device)
        slot[numbers] = torch.arange(len(numbers), device=numbers.device)
        total = torch.zeros(self.heads, len(numbers), self.keys + 1, device=numbers.device)
        for weights, places in zip(self.calls, self.places, strict=True):
            slots = torch.where(places.queries < 0, -1, slot[places.queries.clamp(min=0)])  # (W, N)
            for windows, rows in _pieces(weights.shape, slots >= 0):
                here = slots[windows, rows]
                window, row = (here >= 0).nonzero(as_tuple=True)
                values = weights.rows(windows, rows).float()[window, :, row].transpose(0, 1)  # (h, n, M)
                keys = places.keys[windows]
                index = keys[window, 0] if keys.shape[1] == 1 else keys[:, rows][window, row]  # (n, M)
                found = values.new_zeros(*values.shape[:2], self.keys + 1)
                found.scatter_add_(2, _or_last(index, self.keys).expand(values.shape), values)
                total[places.heads, here[window, row]] += found
        if self.part.extra_mean and (extra := numbers < self.extra).any():
            uniform = torch.zeros(self.queries, device=numbers.device)
            uniform[self.extra :] = 1 / (self.queries - self.extra)
            total[:, extra] = self.combined(uniform)[:, None]
        return total

    def on_cells(self, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Spread weights of keys over the cells for which these stand.

        Args:
            weights: (..., P + M + 1).

        Returns:
            Those of cells (..., H, W), of extra tokens (..., P) and of padding (...). Their sum is that of `weights`.
        """
        cells = self.on_tokens(weights)
        if self.shares is not None:
            cells = torch.einsum("...n,nhw->...hw", cells.flatten(-2), self.shares)
        return cells, weights[..., : self.extra], weights[..., -1]

    def on_tokens(self, weights: Tensor) -> Tensor:
        """As `on_cells`, the image tokens alone and by the grid of the tokens: (..., H, W)."""
        cells, start = torch.zeros(*weights.shape[:-1], *self.size, device=weights.device), self.extra
        for grid in self.part.key_grids(self.size):
            count = math.prod(grid.size)
            cells += grid.on_cells(weights[..., start : start + count].unflatten(-1, grid.size))
            start += count
        return cells

    def without_means(self, queries: Tensor) -> Tensor:
        """Factors of extra tokens that get the mean of image tokens, as factors of these."""
        if not (self.part.extra_mean and self.extra):
            return queries
        image = queries[self.extra :] + queries[: self.extra].sum() / (self.queries - self.extra)
        return torch.cat((torch.zeros_like(queries[: self.extra]), image))


def _or_last(index: Tensor, last: int) -> Tensor:
    return torch.where(index < 0, last, index)


def _pieces(shape: tuple[int, ...], wanted: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of windows and of queries that have all `wanted` (W, N) ones, each of at most `PIECE` weights where a
    single row has fewer."""
    _, heads, queries, keys = shape
    step = max(1, PIECE // (heads * queries * keys))
    row_step = queries if step > 1 else max(1, PIECE // (heads * keys))
    for start in _steps(wanted.any(dim=1), step):
        for rows in _steps(wanted[start].any(dim=0), row_step):
            yield start, rows


def _steps(wanted: Tensor, step: int) -> Iterator[slice]:
    """Slices of at most `step` that have all wanted ones."""
    at = 0
    places = wanted.nonzero()[:, 0].tolist()
    while at < len(places):
        start, first = places[at], at
        while at < len(places) and places[at] < start + step:
            at += 1
        yield slice(start, places[max(at - 1, first)] + 1)


@contextmanager
def read_attention(model: Backbone, parts: list[AttentionPart]) -> Iterator[list[Reading]]:
    """Read the attention weights of `parts` of a model, as long as the context is open, in a pass of one image.

    The forward pass is unchanged, fused where it was: queries and keys are kept, and weights computed from them when
    they are asked for.

    Yields:
        A reading for each part, filled in the pass.
    """
    readings = [Reading(each.part, each.path) for each in parts]
    shares: list[Tensor] = []

    def place(part: Any, args: tuple[Tokens, ...], out: Tokens) -> None:
        shares.append(part.cell_shares(args[0], out)[0])

    with ExitStack() as stack:
        for stage in model.stage_modules:
            if hasattr(stage.tokens, "cell_shares"):
                stack.callback(stage.tokens.register_forward_hook(place).remove)
        for part, reading in zip(parts, readings, strict=True):

            def enter(_: nn.Module, args: tuple[Tokens, ...], reading: Reading, host: InnerTransformer | None) -> None:
                tokens = args[0]
                if tokens.body.shape[0] != 1:
                    raise HexavitError(f"attention is read of one image at a time, not of {tokens.body.shape[0]}")
                reading.size, reading.extra = tokens.size, tokens.prefix
                if host is not None:
                    reading.size, reading.extra = host.word_grid(tokens.size), 0
                reading.shares = None if tokens.layout == "raster" else shares[-1]
                reading.calls.clear()

            entered = part.host or part.part
            handle = entered.register_forward_pre_hook(partial(enter, reading=reading, host=part.host))
            stack.callback(handle.remove)
            stack.callback(setattr, reading.part, "reader", None)
            reading.part.reader = reading.calls.append
        yield readings
