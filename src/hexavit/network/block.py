"""The block of a stage: tensors in, tensors out, so that hooks and sharding find them; and its recomputation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hexavit.network.feature_map import FeatureMap
from hexavit.parts.contract import Layout, PartModule, Size, Tokens, halves, lower_names


class BuiltBranch(NamedTuple):
    """A branch of a block.

    Attributes:
        name: of its module.
        kind: `attention` or `feedforward`.
        part: the part.
        residual: the residual around it.
        parallel: whether it is parallel to the branch before it.
    """

    name: str
    kind: str
    part: nn.Module
    residual: nn.Module
    parallel: bool = False


class Block(nn.Module):
    """Branches one after the other, each in its residual, then a position part if one acts after the block.

    Takes and gives plain tensors, so that full backward hooks, FSDP and gradient checkpointing find them; the parts
    inside exchange `Tokens`. A branch named N is the modules `N` and `N_residual`.

    In a stage with several resolutions the image tokens are the highest one. The blocks of the others are `lower`, by
    the number of the resolution; they run first, and a part that joins resolutions then finds what they gave.

    Attributes:
        names: of the branches, in order.
        resizes: names of the branches whose parts may change the grid.
        output_map: the image tokens that come out, as a map (B, C, H, W), for hooks.
    """

    def __init__(
        self, branches: Sequence[BuiltBranch], position: nn.Module | None, lower: Sequence[Block] = ()
    ) -> None:
        super().__init__()
        self.names = tuple(branch.name for branch in branches)
        self.kinds = tuple(branch.kind for branch in branches)
        self.parallel = frozenset(branch.name for branch in branches if branch.parallel)
        self.resizes = tuple(branch.name for branch in branches if not branch.parallel and _resizes(branch.part))
        for branch in branches:
            self.add_module(f"{branch.name}_residual", branch.residual)
            self.add_module(branch.name, branch.part)
        self.position = position
        self.output_map = FeatureMap()
        names = lower_names(len(lower))
        gives = {*names, *(name for part in self.children() for name in getattr(part, "gives", ()))}
        takes = {name for part in self.children() for name in getattr(part, "takes", ())}
        self.gives, self.reads = tuple(sorted(gives)), tuple(sorted(gives | takes))
        self.lower = nn.ModuleDict({str(r): block for r, block in enumerate(lower, 1)}) if lower else None

    @property
    def branches(self) -> list[BuiltBranch]:
        """The branches, in order."""
        return [
            BuiltBranch(name, kind, getattr(self, name), getattr(self, f"{name}_residual"), name in self.parallel)
            for name, kind in zip(self.names, self.kinds, strict=True)
        ]

    def forward(
        self,
        x: Tensor,
        extra: Tensor | None = None,
        *carried: Tensor,
        size: Size,
        prefix: int = 0,
        layout: Layout = "raster",
        names: Sequence[str] = (),
    ) -> Tensor | tuple[Tensor, ...]:
        """Run the block.

        Args:
            x: image tokens (B, N, C), or all tokens (B, P + N, C) with the `prefix` extra ones first.
            extra: extra tokens (B, P, C), if they are apart from `x`.
            *carried: what parts of the block take from earlier ones.
            size: grid (H, W) of the image tokens.
            prefix: number of extra tokens in `x`.
            layout: what the image tokens are.
            names: names of `carried`.

        Returns:
            The tokens in the form in which they came: a tensor, or a tuple (x, extra, *given) where extra tokens are
            apart or where parts hand on more; `gives` are the names of the latter.
        """
        carry = dict(zip(names, carried, strict=True)) if names else None
        tokens = source = Tokens(x, size, extra, prefix, layout, carry)
        if self.lower is not None:
            tokens = source = self._with_lower(tokens)
        for name in self.names:
            # Four calls of `getattr` in each block would be 3 % of a small model's pass.
            part, residual = self._modules[name], self._modules[f"{name}_residual"]
            assert part is not None and residual is not None
            if name in self.parallel:
                tokens = residual(tokens, part, source)
            else:
                source = tokens
                tokens = residual(tokens, part)
        if self.position is not None:
            tokens = self.position(tokens)
        tokens = self.output_map.on(tokens.join() if extra is None else tokens.split())
        given = tuple(tokens.carry[name] for name in self.gives) if self.gives else ()
        if tokens.extra_body is not None:
            return (tokens.body, tokens.extra_body, *given)
        return (tokens.body, *given) if given else tokens.body

    def _with_lower(self, tokens: Tokens) -> Tokens:
        """The tokens with what the blocks of the lower resolutions give of these."""
        given: dict[str, Tensor] = {}
        for name, block in zip(lower_names(len(self.lower_blocks)), self.lower_blocks, strict=True):
            grid = tokens.carry[name]
            size = grid.shape[1], grid.shape[2]
            out = block(grid.flatten(1, 2), size=size)
            out = out[0] if isinstance(out, tuple) else out  # what its parts carry ends here
            given[name] = out.unflatten(1, block.out_size(size))
        return tokens.with_carry(**given)

    @property
    def lower_blocks(self) -> list[Block]:
        """The blocks of the lower resolutions, typed."""
        return [] if self.lower is None else list(self.lower.values())  # type: ignore[arg-type]  # a ModuleDict is untyped

    def set_size(self, size: Size) -> None:
        """Rebuild what depends on the grid for another one, in the lower resolutions too."""
        for block, below in zip(self.lower_blocks, halves(size, len(self.lower_blocks))[1:], strict=True):
            block.set_size(below)
        for branch, before, after in self.sizes(size):
            for part in (branch.part, branch.residual):
                if isinstance(part, PartModule):
                    part.set_size(before)
            size = after
        if isinstance(self.position, PartModule):
            self.position.set_size(size)

    def out_size(self, size: Size) -> Size:
        """The grid that comes out for a grid that goes in."""
        for name in self.resizes:
            size = out_size(getattr(self, name), size)
        return size

    def sizes(self, size: Size) -> Iterator[tuple[BuiltBranch, Size, Size]]:
        """Each branch with the grid that goes in and the grid that comes out."""
        for branch in self.branches:
            after = size if branch.parallel else out_size(branch.part, size)
            yield branch, size, after
            size = after


def _resizes(part: nn.Module) -> bool:
    return getattr(type(part), "out_size", PartModule.out_size) is not PartModule.out_size


def out_size(module: nn.Module, size: Size) -> Size:
    """The grid that comes out of a part or a block; a module that does not tell keeps it."""
    tell = getattr(module, "out_size", None)
    return size if tell is None else tell(size)


def run_block(block: nn.Module, tokens: Tokens, recompute: bool) -> Tokens:
    """Call a block on tokens; with `recompute` its activations are computed again in the backward pass."""
    body, size, extra, prefix, layout, carry = tokens
    names = tuple(name for name in getattr(block, "reads", ()) if name in carry) if carry else ()
    given = body, extra, *(carry[name] for name in names)
    about: dict[str, Any] = {"size": size, "prefix": prefix, "layout": layout, "names": names}
    if not recompute or not torch.is_grad_enabled():
        out = block(*given, **about)
    elif torch.compiler.is_compiling():  # a compiler recomputes without calling the block again, and takes no contexts
        out = checkpoint(block, *given, **about, use_reentrant=False)
    else:
        out = checkpoint(block, *given, **about, use_reentrant=False, context_fn=partial(_contexts, block))
    size = out_size(block, size)
    if not isinstance(out, tuple):
        return Tokens(out, size, None, prefix, layout, carry)
    x, *rest = out
    if extra is not None:
        extra, *rest = rest
    gives = getattr(block, "gives", ())
    return Tokens(x, size, extra, prefix, layout, {**carry, **dict(zip(gives, rest, strict=True))})


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """For the first pass of a block, and for the pass that recomputes it."""
    return nullcontext(), _frozen_statistics(block)


@contextmanager
def _frozen_statistics(block: nn.Module) -> Iterator[None]:
    """Within it, batch norms do not update their running statistics: recomputing must not count images twice."""
    norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d | nn.SyncBatchNorm)]
    held = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, before in zip(norms, held, strict=True):
            norm.momentum, norm.num_batches_tracked = before
