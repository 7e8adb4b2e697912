"""From data to modules: which parts fit together, and the stages and blocks that hold them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hexavit.architecture import COLUMNS, Architecture, Part, Stage
from hexavit.errors import ArchitectureError
from hexavit.parts.attention import Attention
from hexavit.parts.contract import PartModule, Size, Tokens
from hexavit.parts.registry import build_part, options, part_class


class Block(nn.Module):
    """One row's block: attention and feedforward, each inside its residual, then a position part that acts there."""

    def __init__(
        self,
        attention: nn.Module,
        feedforward: nn.Module,
        attention_residual: nn.Module,
        feedforward_residual: nn.Module,
        position: nn.Module | None,
    ) -> None:
        super().__init__()
        self.attention_residual = attention_residual
        self.attention = attention
        self.feedforward_residual = feedforward_residual
        self.feedforward = feedforward
        self.position = position

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + N, C) to (B, P + N', C)."""
        tokens = self.attention_residual(tokens, self.attention)
        tokens = self.feedforward_residual(tokens, self.feedforward)
        return tokens if self.position is None else self.position(tokens)


class StageModule(nn.Module):
    """One row: tokens, extra tokens that enter here, position, blocks, a norm behind, and what the blocks share."""

    def __init__(
        self,
        tokens: nn.Module,
        class_token: nn.Parameter | None,
        position: nn.Module | None,
        blocks: list[Block],
        shared: nn.ModuleDict,
        norm: nn.Module | None,
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.class_token = class_token
        self.position = position
        self.blocks = nn.ModuleList(blocks)
        self.shared = shared if len(shared) else None
        self.norm = norm
        # Where a block reads the grid, a sequence behind extra tokens would be copied at every convolution.
        inner = (m for block in self.blocks for m in block.modules())
        self.split = any(getattr(m, "reads_grid", False) for m in inner)
        self.grad_checkpointing = False
        self.collects = False

    def enter(self, tokens: Tokens) -> Tokens:
        """The stage's input to the tokens that its first block sees."""
        tokens = self.tokens(tokens)
        if self.class_token is not None:
            tokens = tokens.with_extra(self.class_token.expand(tokens.image.shape[0], -1, -1))
        if self.position is not None:
            tokens = self.position(tokens)
        return tokens.split() if self.split else tokens.join()

    def run(self, block: nn.Module, tokens: Tokens) -> Tokens:
        """One block, recomputed in the backward pass where gradient checkpointing is on."""
        out: Tokens
        if not self.grad_checkpointing or not torch.is_grad_enabled():
            out = block(tokens)
        elif torch.compiler.is_compiling():  # it recomputes without calling the block again, and takes no context
            out = _captured(block, tokens)
        else:
            out = checkpoint(block, tokens, use_reentrant=False, context_fn=partial(_contexts, block))
        return _with_class_tokens(out) if self.collects else out

    def forward(self, tokens: Tokens) -> Tokens:
        """The stage's input to its output."""
        tokens = self.enter(tokens)
        for block in self.blocks:
            tokens = self.run(block, tokens)
        return self.leave(tokens)

    def leave(self, tokens: Tokens) -> Tokens:
        """The last block's output to the stage's: normed, where its residual says so."""
        return tokens if self.norm is None else tokens.each(self.norm)


def _captured(block: nn.Module, tokens: Tokens) -> Tokens:
    """A checkpoint inside a graph, through tensors alone: all that torch 2.11 takes there, and gives back."""
    attention, layout, size = block.attention, tokens.layout, tokens.size
    prefix = tokens.prefix if tokens.joined else 0
    had = sorted(tokens.carry)
    has = sorted({*had, *(name for part in block.children() for name in getattr(part, "gives", ()))})

    def tensors_of(whole: Tokens, names: Sequence[str]) -> tuple[Tensor | None, ...]:
        body = (whole.sequence, None) if tokens.joined else (whole.image, whole.extra)
        return (*body, *(whole.carry[name] for name in names))

    def tokens_of(tensors: Sequence[Any], names: Sequence[str], size: Size) -> Tokens:
        body, extra, *carried = tensors
        carry = dict(zip(names, carried, strict=True))
        return Tokens(body, size, extra=extra, prefix=prefix, layout=layout, carry=carry)

    def run(*given: Any) -> tuple[Tensor | None, ...]:
        return tensors_of(block(tokens_of(given, had, size)), has)

    out = checkpoint(run, *tensors_of(tokens, had), use_reentrant=False)
    return tokens_of(out, has, attention.out_size(size) if isinstance(attention, PartModule) else size)


CLASS_TOKENS = "class_tokens"
"""What the house itself hands on where the head takes it: the extra tokens after every block so far (B, L, C)."""


def _with_class_tokens(tokens: Tokens) -> Tokens:
    held, extra = tokens.carry.get(CLASS_TOKENS), tokens.extra
    assert extra is not None
    return tokens.with_carry(**{CLASS_TOKENS: extra if held is None else torch.cat((held, extra), dim=1)})


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For the first pass of a block, and for the one that recomputes it."""
    return nullcontext(), _uncounted(block)


@contextmanager
def _uncounted(block: nn.Module) -> Iterator[None]:
    """Within it, batch norms leave their running statistics alone: recomputing must not count the same images twice."""
    norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d | nn.SyncBatchNorm)]
    held = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, before in zip(norms, held, strict=True):
            norm.momentum, norm.num_batches_tracked = before


def compose(architecture: Architecture) -> tuple[list[StageModule], nn.Module]:
    """The stages and the head of an architecture.

    Raises:
        ArchitectureError: a part or option that does not exist, a value that its part refuses, or parts that do not
            fit together, with a sentence that names both.
    """
    check_fits(architecture.check())
    size, in_dim, extra = architecture.img_size, architecture.in_chans, 0
    enter, entering = head_entry(architecture)
    total, done = sum(stage.depth for stage in architecture.stages), 0
    stages: list[StageModule] = []
    for i, stage in enumerate(architecture.stages):
        rates = _drop_rates(stage, done, total)
        extra += entering if i == enter else 0
        house = {"in_dim": in_dim, "dim": stage.dim, "extra": extra, "norm_eps": architecture.norm_eps}
        tokens = _build("tokens", stage.tokens, house, f"stages.{i}.tokens")
        size = _sized(tokens, size, architecture.img_size, f"stages.{i}.tokens={stage.tokens}")
        position = _stage_position(stage, {**house, "size": size}, i)
        blocks: list[Block] = []
        shared = nn.ModuleDict({kind: nn.ModuleDict() for kind in COLUMNS[1:]})
        for k in range(stage.depth):
            block = _build_block(
                stage,
                k,
                {**house, "size": size, "drop_path": rates[k], "index": k},
                f"stages.{i}.blocks.{k}",
                shared,
            )
            size = _out_size(block.attention, size)
            blocks.append(block)
        token = nn.Parameter(torch.zeros(1, entering, stage.dim)) if entering and i == enter else None
        norm = nn.LayerNorm(stage.dim, eps=architecture.norm_eps) if _normed_behind(blocks[-1]) else None
        stages.append(StageModule(tokens, token, position, blocks, _used(shared), norm))
        in_dim, done = stage.dim, done + stage.depth
    head_house = {
        "dim": in_dim,
        "norm_eps": architecture.norm_eps,
        "num_classes": architecture.num_classes,
        "size": size,
        "blocks": sum(stage.depth for stage in architecture.stages[enter:]),
    }
    for module in stages[enter:]:
        module.collects = CLASS_TOKENS in getattr(part_class("head", architecture.head.name), "takes", ())
    return stages, _build("head", architecture.head, head_house, "head")


def head_entry(architecture: Architecture) -> tuple[int, int]:
    """The stage where the head's extra tokens enter, and how many they are."""
    cls, known = part_class("head", architecture.head.name), options("head", architecture.head.name)
    count = int(getattr(cls, "extra_tokens", 0))
    enter = architecture.head.options.get("enter", known["enter"].default if "enter" in known else 0)
    last = len(architecture.stages)
    assert isinstance(enter, int)
    if count and not -last <= enter < last:
        raise ArchitectureError(f"head={architecture.head}: there is no stage {enter} to enter, only 0 to {last - 1}")
    return enter % last, count


def check_fits(architecture: Architecture) -> None:
    """Refuse parts that do not fit together, naming both."""
    layout, source = "raster", "the image"
    given: set[str] = set()
    enter, entering = head_entry(architecture)
    for i, stage in enumerate(architecture.stages):
        for where, kind, part in _walk(stage, i):
            cls = part_class(kind, part.name)
            need = getattr(cls, "needs", "any")
            if (need == "raster" and layout != "raster") or (need == "points" and layout == "set"):
                raise ArchitectureError(
                    f"{where}={part} reads a {need}, and {source} gives a {layout}: change one of the two"
                )
            if getattr(cls, "needs_extra", False) and not (entering and i >= enter):
                raise ArchitectureError(
                    f"{where}={part} works on extra tokens, and head={architecture.head} brings none to stage {i}: "
                    f"use head=class_token(enter={i})"
                )
            if kind == "tokens":
                if entering and i > enter and not getattr(cls, "keeps_extra", True):
                    raise ArchitectureError(
                        f"head={architecture.head} lets its token enter at stage {enter}, and {where}={part} cannot "
                        f"carry it into stage {i}: use enter={len(architecture.stages) - 1}, or tokens=keep"
                    )
                makes = getattr(cls, "makes", None)
                layout, source = (makes, f"{where}={part}") if makes else (layout, source)
            for name in getattr(cls, "takes", ()):
                if name not in given:
                    raise ArchitectureError(f"{where}={part} takes {name!r}, which no part before it gives")
            given.update(getattr(cls, "gives", ()))
            if kind == "position":
                _check_position(stage, i, where, part)
    for name in getattr(part_class("head", architecture.head.name), "takes", ()):
        if name not in given | ({CLASS_TOKENS} if entering else set()):
            raise ArchitectureError(f"head={architecture.head} takes {name!r}, which no part before it gives")


def _walk(stage: Stage, i: int) -> list[tuple[str, str, Part]]:
    """A stage's parts in the order in which they run, a column that does not change named once."""
    found = [(f"stages.{i}.tokens", "tokens", stage.column("tokens"))]
    for k in range(stage.depth):
        for kind in COLUMNS[1:]:
            steady = isinstance(getattr(stage, kind), Part)
            if k == 0 or not steady:
                where = f"stages.{i}.{kind}" if steady else f"stages.{i}.blocks.{k}.{kind}"
                found.append((where, kind, stage.column(kind, k)))
    return found


def _check_position(stage: Stage, i: int, where: str, part: Part) -> None:
    acts = getattr(part_class("position", part.name), "acts", "tokens")
    if acts == "tokens" and ".blocks." in where:
        raise ArchitectureError(f"{where}={part} acts on the tokens that enter a stage: set it for the whole stage")
    if acts not in ("logits", "values"):
        return
    for k in range(stage.depth):
        if stage.column("position", k) != part:
            continue
        attention = stage.column("attention", k)
        if acts not in getattr(part_class("attention", attention.name), "offers", frozenset()):
            raise ArchitectureError(
                f"{where}={part} acts on the attention's {acts}, which stages.{i}.attention={attention} does not offer"
            )


def _stage_position(stage: Stage, house: Mapping[str, Any], i: int) -> nn.Module | None:
    if not isinstance(stage.position, Part):
        return None
    acts = getattr(part_class("position", stage.position.name), "acts", "tokens")
    return _build("position", stage.position, house, f"stages.{i}.position") if acts == "tokens" else None


def _used(shared: nn.ModuleDict) -> nn.ModuleDict:
    """Of what a stage's blocks may share, by kind of part, what they do."""
    return nn.ModuleDict({kind: held for kind, held in shared.items() if len(held)})  # type: ignore[arg-type]


def _normed_behind(block: Block) -> bool:
    return bool(getattr(block.feedforward_residual, "stage_norm", False))


def _build_block(stage: Stage, k: int, house: Mapping[str, Any], where: str, shared: nn.ModuleDict) -> Block:
    build = partial(_build_at, stage, k, where, shared)
    position_part, attention_part = stage.column("position", k), stage.column("attention", k)
    acts = getattr(part_class("position", position_part.name), "acts", "tokens")
    attention = build("attention", house)
    if acts in ("logits", "values"):
        attention.position = build("position", {**house, **_inside(attention, attention_part, house["size"])})
    after = {**house, "size": _out_size(attention, house["size"])}
    around_attention = {**house, "stride": getattr(attention, "stride", 1), "role": "attention"}
    attention_residual = build("residual", around_attention)
    return Block(
        attention,
        build("feedforward", after),
        attention_residual,
        build("residual", {**after, "stride": 1, "role": "feedforward"}),
        build("position", after) if acts == "block" else None,
    )


def _inside(attention: nn.Module, part: Part, size: Size) -> dict[str, Any]:
    """What a position inside an attention is told of it."""
    known = {"heads": part.options.get("heads", 1), "scope": size}
    if isinstance(attention, Attention):
        known["scope"] = attention.scope(size)
    return {**known, "head_dim": attention.head_dim} if hasattr(attention, "head_dim") else known


def _build_at(
    stage: Stage, k: int, where: str, shared: nn.ModuleDict, kind: str, house: Mapping[str, Any]
) -> nn.Module:
    return _build(kind, stage.column(kind, k), {**house, "shared": shared[kind]}, f"{where}.{kind}")


def _build(kind: str, part: Part, house: Mapping[str, Any], where: str) -> nn.Module:
    return build_part(kind, part.name, part.options, house, where)


def _drop_rates(stage: Stage, done: int, total: int) -> list[float]:
    """Stochastic depth's rate for each block of a stage, of `total` blocks of which `done` stand before it."""
    if stage.ramp == "constant":
        return [stage.drop_path] * stage.depth
    first, span = (0, stage.depth) if stage.ramp == "stage" else (done, total)
    return [stage.drop_path * (first + k) / max(span - 1, 1) for k in range(stage.depth)]


def _out_size(part: nn.Module, size: Size) -> Size:
    return part.out_size(size) if isinstance(part, PartModule) else size


def _sized(tokens: nn.Module, size: Size, img_size: Size, where: str) -> Size:
    out = _out_size(tokens, size)
    if min(out) < 1:
        raise ArchitectureError(
            f"{where} leaves no token of a grid of {size[0]}x{size[1]}: an image of {img_size} is too small"
        )
    return out


def as_tokens(images: Tensor) -> Tokens:
    """Images (B, C, H, W) as the tokens that the first stage turns into tokens: pixels, channels-last."""
    return Tokens.of_map(images)
