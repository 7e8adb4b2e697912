"""From an architecture to modules: the stages, with their blocks, and the head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hexavit.architecture import COLUMNS, Architecture, Branch, Column, Part, Pattern, Stage
from hexavit.errors import ArchitectureError
from hexavit.network.block import Block, BuiltBranch, out_size
from hexavit.network.checks import acts_on, check_fits, head_entry
from hexavit.network.stage import CLASS_TOKENS, StageModule
from hexavit.parts.attention import Attention
from hexavit.parts.contract import Layout, PartModule, Size, Tokens, halves
from hexavit.parts.registry import Kind, build_part, context_of, part_class

SharedModules = Mapping[Kind, nn.ModuleDict]
"""By column, the modules whose weights the blocks of a stage share."""

__all__ = ["Block", "StageModule", "as_tokens", "check_fits", "compose", "head_entry"]


def compose(architecture: Architecture) -> tuple[list[StageModule], nn.Module]:
    """The stages and the head of an architecture.

    Raises:
        ArchitectureError: a part or an option that does not exist, a value for which its part raises, or two parts
            that do not fit together.
    """
    check_fits(architecture.check())
    size, grid, width, extra = architecture.img_size, architecture.img_size, architecture.in_chans, 0
    enter, entering = head_entry(architecture)
    total, done = sum(stage.depth * _layers(stage) for stage in architecture.stages), 0
    layout: Layout = "raster"
    carried: dict[str, tuple[int, ...]] = {}
    lower: tuple[int, ...] = ()
    stages: list[StageModule] = []
    for i, stage in enumerate(architecture.stages):
        rates = _drop_rates(stage, done, total)
        of_model = {"norm_eps": architecture.norm_eps, "carried": carried}
        context = {**of_model, "in_dim": width, "dim": stage.dim, "extra": extra, "size": size, "grid": grid}
        context["lower"] = lower
        tokens = _build("tokens", stage.tokens, context, f"stages.{i}.tokens")
        before, size = size, _size_of_tokens(tokens, size, architecture.img_size, f"stages.{i}.tokens={stage.tokens}")
        if size != before:  # what was carried for each token is of the tokens before
            for name in set(carried) - set(getattr(tokens, "gives", ())):
                del carried[name]
        extra = tokens.extra_out(extra, size) if isinstance(tokens, PartModule) else extra
        extra += entering if i == enter else 0
        kept, width = (size, width), getattr(tokens, "out_dim", None) or stage.dim
        lower = getattr(tokens, "lower_dims", lower if kept == (before, width) else ())
        layout = getattr(tokens, "makes", None) or layout
        context = {**of_model, "dim": width, "extra": extra, "lower": lower}
        position = _stage_position(stage, {**context, "size": size}, i)
        token = nn.Parameter(torch.zeros(1, entering, width)) if entering and i == enter else None
        blocks: list[Block] = []
        shared: SharedModules = {kind: nn.ModuleDict() for kind in COLUMNS[1:]}
        for k in range(stage.depth):
            of_block = {**context, "size": size, "index": k}
            block, width = _build_block(stage, k, of_block, width, f"stages.{i}.blocks.{k}", shared, rates[k])
            size = block.out_size(size)
            blocks.append(block)
        if not blocks and width != stage.dim:
            raise ArchitectureError(f"stages.{i}.tokens={stage.tokens} gives a width of {width}, not dim={stage.dim}")
        normed = bool(blocks) and bool(getattr(blocks[-1].branches[-1].residual, "stage_norm", False))
        norm = nn.LayerNorm(width, eps=architecture.norm_eps) if normed else None
        stages.append(
            StageModule(
                tokens,
                token,
                position,
                blocks,
                _used(shared),
                norm,
                out_dim=width,
                layout=layout,
                extra=extra,
                lower_dims=lower,
            )
        )
        grid = size if layout == "raster" else grid
        done += stage.depth * _layers(stage)
    of_head = {
        "dim": width,
        "norm_eps": architecture.norm_eps,
        "num_classes": architecture.num_classes,
        "size": size,
        "extra": extra,
        "blocks": sum(stage.depth for stage in architecture.stages[enter:]),
    }
    for module in stages[enter:]:
        module.collects = CLASS_TOKENS in getattr(part_class("head", architecture.head.name), "takes", ())
    return stages, _build("head", architecture.head, of_head, "head")


def as_tokens(images: Tensor) -> Tokens:
    """Images (B, C, H, W) as tokens, one a pixel, in the images' memory: what the first stage takes."""
    return Tokens.of_grid(images.permute(0, 2, 3, 1))


def _stage_position(stage: Stage, context: Mapping[str, Any], i: int) -> nn.Module | None:
    if not isinstance(stage.position, Part) or acts_on(stage.position) != "tokens":
        return None
    return _build("position", stage.position, context, f"stages.{i}.position")


def _used(shared: SharedModules) -> nn.ModuleDict | None:
    """What the blocks of a stage share, by kind of part; None if nothing."""
    used: dict[str, nn.Module] = {kind: modules for kind, modules in shared.items() if len(modules)}
    return nn.ModuleDict(used) if used else None


def _build_block(
    stage: Stage,
    k: int,
    context: Mapping[str, Any],
    width: int,
    where: str,
    shared: SharedModules,
    rates: Sequence[float],
) -> tuple[Block, int]:
    """Block k of a stage, for tokens of a width; and the width of the tokens that come out.

    `rates` of stochastic depth are those of its attentions, and of the branches behind each.
    """
    branches: list[BuiltBranch] = []
    size: Size = context["size"]
    lower = [_lower_block(stage, k, r, context, where, rates) for r in range(1, len(context["lower"]) + 1)]
    attentions = 0
    for branch in stage.block:
        attentions += branch.kind == "attention" and not branch.parallel
        context = {**context, "drop_path": rates[max(attentions - 1, 0)]}
        name, columns = branch.module, dict(branch.columns)
        part = _branch_part(stage, k, branch)
        path = f"{where}.{name}"
        can_widen = "in_dim" in context_of(part_class(branch.kind, part.name))
        if width != stage.dim and not can_widen:
            raise ArchitectureError(
                f"{path}={part} gets a width of {width}, since {where.partition('.blocks')[0]}.tokens={stage.tokens} "
                f"gives it, and cannot change it to {stage.dim}: use a tokens part that does, as 'conv', or dim={width}"
            )
        given = {**context, "size": size, "in_dim": width, "dim": stage.dim, "shared": shared[branch.kind]}
        module = _build(branch.kind, part, given, path)
        if isinstance(module, Attention):
            _place_positions(module, part, stage, k, columns, {**given, "shared": shared["position"]}, path)
        out_dim = getattr(module, "out_dim", None) or stage.dim
        residual = _part(stage, k, columns.get("residual"), "residual")
        of_residual = {**given, "dim": width, "out_dim": out_dim, "stride": getattr(module, "stride", 1)}
        if out_dim != width and "out_dim" not in context_of(part_class("residual", residual.name)):
            raise ArchitectureError(
                f"{path}={part} changes the width from {width} to {out_dim}, which residual={residual} cannot: "
                "use residual=pre_norm"
            )
        shrinks = out_size(module, size) != size
        if shrinks and getattr(part_class("residual", residual.name), "keeps_image", False):
            raise ArchitectureError(
                f"{path}={part} shrinks the grid, and residual={residual} leaves the image tokens as they are: "
                "use residual=pre_norm"
            )
        if branch.parallel and not getattr(part_class("residual", residual.name), "reads_source", False):
            raise ArchitectureError(f"{path} is a parallel branch, which residual={residual} cannot add: use pre_norm")
        alone = getattr(part_class("residual", residual.name), "keeps_image", False)
        takes: tuple[str, ...] = getattr(module, "takes", ())
        if alone and branch.kind == "feedforward" and takes:
            raise ArchitectureError(
                f"{path}={part} takes {', '.join(takes)} of the image tokens, and residual={residual} gives it "
                "extra tokens alone: use residual=pre_norm"
            )
        of_residual |= {"role": branch.kind, "shared": shared["residual"]}
        around = _build("residual", residual, of_residual, f"{path}_residual" if branch.name else f"{where}.residual")
        if branch.parallel and (out_size(module, size) != size or out_dim != width):
            raise ArchitectureError(f"{path}={part} is parallel to the branch before it, and changes grid or width")
        branches.append(BuiltBranch(name, branch.kind, module, around, branch.parallel))
        size, width = (size if branch.parallel else out_size(module, size)), out_dim
    position = stage.column("position", k)
    of_position = {**context, "dim": width, "size": size, "shared": shared["position"]}
    after = _build("position", position, of_position, f"{where}.position") if acts_on(position) == "block" else None
    return Block(branches, after, lower), width


def _lower_block(stage: Stage, k: int, r: int, context: Mapping[str, Any], where: str, rates: Sequence[float]) -> Block:
    """Block k of the resolution r of a stage: 2^r times the width and heads, without what joins resolutions."""
    dim, below = stage.dim * 2**r, f"{where}.lower.{r}"
    columns: dict[str, Any] = {kind: _with_heads(getattr(stage, kind), kind, 2**r) for kind in stage.used}
    block = [
        replace(branch, part=branch.part and _with_heads(branch.part, branch.kind, 2**r))
        for branch in stage.block
        if not getattr(part_class(branch.kind, _branch_part(stage, k, branch).name), "joins_resolutions", False)
    ]
    if not block:
        raise ArchitectureError(f"{where}: a block needs a branch besides the one that joins resolutions")
    scaled = replace(stage, dim=dim, block=tuple(block), **columns)
    for branch in block:
        part = _branch_part(scaled, k, branch)
        if takes := getattr(part_class(branch.kind, part.name), "takes", ()):
            raise ArchitectureError(
                f"{below}.{branch.module}={part} takes {', '.join(takes)}, which no lower resolution of "
                f"tokens={stage.tokens} has"
            )
    shared: SharedModules = {kind: nn.ModuleDict() for kind in COLUMNS[1:]}
    size = halves(context["size"], r)[-1]
    given = {**context, "dim": dim, "size": size, "extra": 0, "lower": (), "carried": {}}
    built, _ = _build_block(scaled, k, given, dim, below, shared, rates)
    if used := _used(shared):
        raise ArchitectureError(
            f"{below}: {next(iter(used))}={stage.column(next(iter(used)), k)} shares weights between blocks, which "
            f"lower resolutions of tokens={stage.tokens} cannot"
        )
    if built.out_size(size) != size:
        raise ArchitectureError(f"{below} changes its grid, which lower resolutions of tokens={stage.tokens} cannot")
    return built


def _with_heads(column: Column, kind: str, times: int) -> Column:
    """An attention column with so many times as many heads; others as they are."""
    if kind != "attention":
        return column
    if isinstance(column, Pattern):
        at = {index: _scaled(part, times) for index, part in column.at.items()}
        return Pattern([_scaled(part, times) for part in column.cycle], at)
    return _scaled(column, times)


def _scaled(part: Part, times: int) -> Part:
    heads = part.options.get("heads")
    return Part(part.name, **{**part.options, "heads": heads * times}) if isinstance(heads, int) else part


def _branch_part(stage: Stage, k: int, branch: Branch) -> Part:
    """The part of a branch at block k."""
    return _part(stage, k, branch.columns.get("part"), branch.kind)


def _part(stage: Stage, k: int, column: tuple[str, Column] | None, kind: str) -> Part:
    """The part of a branch at block k: its own, or else the stage's."""
    return stage.column(kind, k) if column is None else stage.chosen(column[1], kind, k)


def _place_positions(
    attention: Attention,
    part: Part,
    stage: Stage,
    k: int,
    columns: Mapping[str, tuple[str, Column]],
    context: Mapping[str, Any],
    where: str,
) -> None:
    """Build the position parts that act inside an attention: the stage's, and its branch's own."""
    own = columns.get("position")
    held = [] if "part" in columns and own is None else [stage.column("position", k)]
    for position in [*held, *([] if own is None else [stage.chosen(own[1], "position", k)])]:
        acts = acts_on(position)
        if acts not in ("logits", "values"):
            continue
        slot = "position" if acts == "logits" else "value_position"
        if getattr(attention, slot) is not None:
            raise ArchitectureError(f"{where}={part} has two positions on its {acts}; the second is {position}")
        modules = []
        for scope in attention.scopes(context["size"]):
            if scope.keys != scope.queries and not getattr(part_class("position", position.name), "two_grids", False):
                raise ArchitectureError(
                    f"{where}={part} has queries on a grid of {scope.queries} and keys on one of {scope.keys}, and "
                    f"position={position} takes equal grids"
                )
            inside = {"heads": scope.heads, "scope": scope.queries, "key_scope": scope.keys}
            inside |= {"head_dim": attention.head_dim} if hasattr(attention, "head_dim") else {}
            modules.append(_build("position", position, {**context, **inside}, f"{where.rpartition('.')[0]}.position"))
        setattr(attention, slot, modules[0] if len(modules) == 1 else nn.ModuleList(modules))


def _build(kind: str, part: Part, context: Mapping[str, Any], where: str) -> nn.Module:
    module = build_part(kind, part.name, part.options, context, where)
    if "carried" in context:  # of the model, in order
        context["carried"].update(getattr(module, "given_shapes", {}))
    return module


def _layers(stage: Stage) -> int:
    """How many layers a block is for stochastic depth: the number of its attentions that each resolution has."""
    attentions = [branch for branch in stage.block if branch.kind == "attention" and not branch.parallel]
    return max(len(attentions), 1)


def _drop_rates(stage: Stage, done: int, total: int) -> list[list[float]]:
    """The rates of stochastic depth in each block of a stage, one a layer, of `total` layers with `done` before it."""
    count = _layers(stage)
    first, span = (0, stage.depth * count) if stage.ramp == "stage" else (done, total)
    rates = [
        stage.drop_path * (1 if stage.ramp == "constant" else (first + k) / max(span - 1, 1))
        for k in range(stage.depth * count)
    ]
    return [rates[k : k + count] for k in range(0, len(rates), count)]


def _size_of_tokens(tokens: nn.Module, size: Size, img_size: Size, where: str) -> Size:
    out = out_size(tokens, size)
    if min(out) < 1:
        raise ArchitectureError(
            f"{where} leaves no token of a grid of {size[0]}x{size[1]}: an image of {img_size} is too small"
        )
    return out
