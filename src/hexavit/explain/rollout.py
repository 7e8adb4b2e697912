"""Attention rollout through any model: pyramids, windows and pooled keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hexavit.explain.attention import class_tokens
from hexavit.explain.reading import AttentionPart, Change, Reading, attention_parts, backbone_of, read_attention
from hexavit.network.backbone import Backbone
from hexavit.network.block import Block
from hexavit.network.stage import StageModule
from hexavit.parts.attention import Attention
from hexavit.parts.contract import Size, Tokens, halves, lower_names


@dataclass
class Relevance:
    """How much each token counts.

    Attributes:
        grids: of the cells of each resolution (h, w), the highest first.
        extra: of the extra tokens (P,).
        landed: of points and sets, of the cells (H, W) before them what does not pass through them any more.
    """

    grids: list[Tensor]
    extra: Tensor
    landed: Tensor | None = None

    @property
    def cells(self) -> Tensor:
        """Those of the highest resolution."""
        return self.grids[0]


@dataclass
class Pass:
    """What a pass of one image leaves for the way back.

    Attributes:
        readings: by attention module.
        entering: the tokens that enter each stage: their grid and number of extra tokens.
        inside: the same, behind the stage's tokens part.
        shares: of tokens parts that sample or pool tokens, the share of each cell in each token (N, H, W).
        rasters: whether each stage's tokens part reads, and gives, a raster.
        lower: number of lower resolutions that enter each stage.
    """

    readings: dict[Attention, Reading] = field(default_factory=dict)
    entering: list[tuple[Size, int]] = field(default_factory=list)
    inside: list[tuple[Size, int]] = field(default_factory=list)
    shares: list[Tensor | None] = field(default_factory=list)
    rasters: list[tuple[bool, bool]] = field(default_factory=list)
    lower: list[int] = field(default_factory=list)


def rollout(model: Any, image: Tensor) -> Tensor:
    """Attention rollout (Abnar & Zuidema, ACL 2020), extended to pyramids, windows and pooled keys.

    The rule is written down in the documentation ("Rollout").

    Args:
        model: a model of `hexavit.create_model`, or a loaded one, in evaluation mode.
        image: (C, H, W), preprocessed.

    Returns:
        The share of each cell of the first stage (h, w); their sum is 1.
    """
    with torch.no_grad():
        backbone = backbone_of(model)
        with _watched(backbone) as passed:
            backbone.forward_features(image[None])
        return _back(backbone, passed, {part: _plain(part) for part in passed.readings}, by_row=True)


def gradient_rollout(model: Any, image: Tensor, target: int | None = None) -> Tensor:
    """Rollout of the attention weights times their gradients, positive ones alone (Chefer et al., CVPR 2021).

    Args:
        model: as `rollout`.
        image: (C, H, W), preprocessed.
        target: number of the class; None for the predicted one.

    Returns:
        The share of each cell of the first stage (h, w); their sum is 1, or 0 where no weight speaks for the class.
    """
    backbone = backbone_of(model)
    with torch.enable_grad(), _watched(backbone) as passed:
        logits = backbone(image[None].detach().requires_grad_())[0]
        chosen = logits[int(logits.argmax()) if target is None else target]
        outs = [(part, i, call.out) for part, read in passed.readings.items() for i, call in enumerate(read.calls)]
        kept = [(part, i, out) for part, i, out in outs if out is not None]
        found = torch.autograd.grad(chosen, [out for _, _, out in kept], allow_unused=True) if kept else ()
    with torch.no_grad():
        slopes = {(part, i): gradient for (part, i, _), gradient in zip(kept, found, strict=True)}
        changes = {part: _with_gradient(read, part, slopes) for part, read in passed.readings.items()}
        return _back(backbone, passed, changes, by_row=False)


def _plain(part: Attention) -> Change | None:
    """Rollout reads probabilities; of mixed maps their absolute values, so that shares stay positive."""
    return None if part.maps_are == "probabilities" else lambda _, __, ___, weights: weights.abs()


def _with_gradient(reading: Reading, part: Attention, slopes: Mapping[tuple[Attention, int], Tensor | None]) -> Change:
    """Positive parts of weights times the slopes of the logit: those of the weighed values (N, d) times the values."""

    def change(number: int, windows: slice, rows: slice, weights: Tensor) -> Tensor:
        values = reading.calls[number].values
        if (part, number) not in slopes or values is None:  # filters have no values of their own
            return weights.abs()
        slope = slopes[part, number]
        if slope is None:  # nothing of it reaches the logit
            return torch.zeros_like(weights)
        return (weights * (slope[windows, :, rows].float() @ values[windows].float().transpose(2, 3))).clamp(min=0)

    return change


@contextmanager
def _watched(model: Backbone) -> Iterator[Pass]:
    """Read every attention of the stages, and the sizes, in a pass."""
    passed = Pass()
    of_tokens = [
        AttentionPart("", s, 0, part)
        for s, stage in enumerate(model.stage_modules)
        for part in stage.tokens.modules()
        if isinstance(part, Attention)
    ]

    def enter(_: Any, args: tuple[Tokens, ...]) -> None:
        passed.entering.append((args[0].size, args[0].prefix))
        passed.lower.append(sum(name in args[0].carry for name in lower_names(9)))

    def begin(_: Any, args: tuple[Tokens, ...], out: Tokens, stage: StageModule) -> None:
        passed.inside.append((out.size, out.prefix + (0 if stage.class_token is None else stage.class_token.shape[1])))
        passed.rasters.append((args[0].layout == "raster", out.layout == "raster"))
        tell = getattr(stage.tokens, "cell_shares", None)
        passed.shares.append(tell(args[0], out)[0].detach() if tell is not None else None)

    with ExitStack() as stack:
        readings = stack.enter_context(read_attention(model, of_tokens + attention_parts(model)))
        for stage in model.stage_modules:
            stack.callback(stage.tokens.register_forward_pre_hook(enter).remove)
            stack.callback(stage.tokens.register_forward_hook(partial(begin, stage=stage)).remove)
        passed.readings = {reading.part: reading for reading in readings}
        yield passed


def _back(model: Backbone, passed: Pass, changes: Mapping[Attention, Change | None], by_row: bool) -> Tensor:
    """From the last tokens to the cells of the first stage."""
    way = _Way(passed, changes, by_row)
    stages = model.stage_modules
    relevance = _start(model, passed, stages[-1])
    for number in reversed(range(len(stages))):
        relevance = way.through_blocks(stages[number], number, relevance)
        relevance = way.through_tokens(stages[number], number, relevance)
    cells = torch.stack([resized(grid, size_of(relevance.cells)) for grid in relevance.grids]).sum(dim=0)
    return cells / cells.sum().clamp(min=1e-12)


def _start(model: Backbone, passed: Pass, last: StageModule) -> Relevance:
    """What the head reads: its class tokens, messengers, or the mean of the cells, in every resolution alike."""
    size, extra = passed.inside[-1]
    for block in last.typed_blocks:
        size = block.out_size(size)
    sizes = halves(size, len(last.lower_dims))
    held = torch.zeros(extra)
    own = class_tokens(model) or (extra if model.architecture.head.name == "messengers" else 0)
    if own:
        held[:own] = 1 / own
        return Relevance([torch.zeros(h, w) for h, w in sizes], held)
    return Relevance([torch.full((h, w), 1 / (h * w * len(sizes))) for h, w in sizes], held)


@dataclass
class _Way:
    """The way back through the branches of a model.

    Attributes:
        passed: what a pass left.
        changes: of weights that are no probabilities, by part.
        by_row: whether each row of changed weights is divided by its sum, or all rows by the largest sum.
    """

    passed: Pass
    changes: Mapping[Attention, Change | None]
    by_row: bool

    def through_blocks(self, stage: StageModule, number: int, relevance: Relevance) -> Relevance:
        size = self.passed.inside[number][0]
        sizes = [size]
        for block in stage.typed_blocks:
            sizes.append(block.out_size(sizes[-1]))
        for block, before in zip(reversed(stage.typed_blocks), reversed(sizes[:-1]), strict=True):
            relevance = self._block(block, before, relevance)
        return relevance

    def _block(self, block: Block, size: Size, relevance: Relevance) -> Relevance:
        for branch, before, _ in reversed(list(block.sizes(size))):
            if getattr(branch.part, "joins_resolutions", False):
                relevance = _exchanged(relevance)
            elif isinstance(branch.part, Attention) and branch.part in self.passed.readings:
                relevance = self.through_attention(branch.part, relevance)
            elif not branch.parallel:
                relevance.grids[0] = resized(relevance.grids[0], before)
        for r, (below, grid_size) in enumerate(
            zip(block.lower_blocks, halves(size, len(block.lower_blocks))[1:], strict=True), 1
        ):
            alone = self._block(below, grid_size, Relevance([relevance.grids[r]], torch.zeros(0)))
            relevance.grids[r] = alone.cells
        return relevance

    def through_attention(self, part: Attention, relevance: Relevance) -> Relevance:
        """Half of it stays, half goes where the attention looks; all of it stays where a token asks nothing."""
        reading, change = self.passed.readings[part], self.changes.get(part)
        extra, device = reading.extra, reading.asked.device
        asking = torch.cat((relevance.extra, resized(relevance.cells, reading.query_grid).flatten()))
        moving = reading.without_means(asking).to(device) * reading.asked / 2
        staying = asking - (asking / 2 if part.extra_mean else moving.cpu())
        if change is not None:  # weights that are no probabilities: by their sums
            sums = reading.row_sums(change)
            moving = moving / (sums if self.by_row else sums.max()).clamp(min=1e-12)
        weights = reading.combined(moving, change).mean(dim=0).cpu()
        stays = resized(staying[extra:].view(reading.query_grid), reading.size)
        return replace(
            relevance,
            grids=[reading.on_tokens(weights) + stays, *relevance.grids[1:]],
            extra=weights[:extra] + staying[:extra],
        )

    def through_tokens(self, stage: StageModule, number: int, relevance: Relevance) -> Relevance:
        """Back to the tokens that entered the stage; extra tokens that are new in it end here."""
        size, count = self.passed.entering[number]
        entered = 0 if stage.class_token is None else stage.class_token.shape[1]
        extra, grids, landed = _as_many(relevance.extra[entered:], count), relevance.grids, relevance.landed
        shares, (from_raster, to_raster) = self.passed.shares[number], self.passed.rasters[number]
        if shares is not None:
            sampled = torch.einsum("n,nhw->hw", grids[0].flatten(), shares.cpu())
            if not from_raster:  # points that were sampled again: half is there, half where they were
                landed = sampled / 2 if landed is None else landed + sampled / 2
                return Relevance([grids[0] / 2], extra, landed)
            grids = [sampled if landed is None else sampled + landed]
        elif not from_raster:
            if not to_raster:
                return Relevance(grids, extra, landed)
            # Learned tokens were added to the map before them: half is there, half in all of them alike.
            half = grids[0].new_full(size, float(grids[0].sum()) / (2 * size[0] * size[1]))
            return Relevance([half], extra, grids[0] / 2)
        for part in reversed([m for m in stage.tokens.modules() if isinstance(m, Attention)]):
            grids = [resized(grids[0], self.passed.readings[part].query_grid)]
            grids = self.through_attention(part, Relevance(grids, extra[:0])).grids
        if number == 0:
            return Relevance(grids, extra)
        sizes = halves(size, self.passed.lower[number])
        into = [torch.zeros(each) for each in sizes]
        for r, grid in enumerate(grids):  # a resolution that is new here came of the lowest before it
            into[min(r, len(into) - 1)] += resized(grid, sizes[min(r, len(into) - 1)])
        if len(grids) < len(sizes):  # one map came of all resolutions alike
            into = [resized(grids[0], each) / len(sizes) for each in sizes]
        return Relevance(into, extra)


def _exchanged(relevance: Relevance) -> Relevance:
    """Each resolution read all of them alike."""
    count = len(relevance.grids)
    sizes = [size_of(grid) for grid in relevance.grids]
    mixed = [torch.stack([resized(grid, size) for grid in relevance.grids]).sum(dim=0) / count for size in sizes]
    return Relevance(mixed, relevance.extra)


def _as_many(extra: Tensor, count: int) -> Tensor:
    """Extra tokens of a stage as those before it: themselves if they are as many, else spread over them."""
    if len(extra) == count:
        return extra
    return extra.new_full((count,), float(extra.sum()) / count) if count else extra[:0]


def size_of(grid: Tensor) -> Size:
    """Height and width of a grid."""
    return grid.shape[0], grid.shape[1]


def resized(grid: Tensor, size: Size) -> Tensor:
    """A grid (h, w) on another one by the area that cells have in common; the sum stays."""
    for axis, n in enumerate(size):
        held = grid.shape[axis]
        if held == n:
            continue
        start, end = torch.arange(held)[:, None] / held, (torch.arange(held)[:, None] + 1) / held
        first, last = torch.arange(n) / n, (torch.arange(n) + 1) / n
        common = (torch.minimum(end, last) - torch.maximum(start, first)).clamp(min=0)
        shares = common / common.sum(dim=1, keepdim=True)
        grid = shares.T @ grid if axis == 0 else grid @ shares
    return grid
