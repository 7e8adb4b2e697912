"""The block of a stage: tensors in, tensors out, so that hooks and sharding find them; and its recomputation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hexavit.network.feature_map import FeatureMap
from hexavit.parts.contract import Layout, Size, Tokens


class Block(nn.Module):
    """Attention and feedforward, each in its residual, then a position part if one acts after the block.

    Takes and gives plain tensors, so that full backward hooks, FSDP and gradient checkpointing find them; the parts
    inside exchange `Tokens`.

    Attributes:
        output_map: the image tokens that come out, as a map (B, C, H, W), for hooks.
    """

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
        self.output_map = FeatureMap()
        gives = {name for part in self.children() for name in getattr(part, "gives", ())}
        takes = {name for part in self.children() for name in getattr(part, "takes", ())}
        self.gives, self.reads = tuple(sorted(gives)), tuple(sorted(gives | takes))

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
        tokens = Tokens(x, size, extra, prefix, layout, dict(zip(names, carried, strict=True)))
        tokens = self.attention_residual(tokens, self.attention)
        tokens = self.feedforward_residual(tokens, self.feedforward)
        if self.position is not None:
            tokens = self.position(tokens)
        tokens = self.output_map.on(tokens.join() if extra is None else tokens.split())
        given = tuple(tokens.carry[name] for name in self.gives)
        if tokens.extra_body is not None:
            return (tokens.body, tokens.extra_body, *given)
        return (tokens.body, *given) if given else tokens.body

    def out_size(self, size: Size) -> Size:
        """The grid that comes out for a grid that goes in."""
        return out_size(self.attention, size)


def out_size(module: nn.Module, size: Size) -> Size:
    """The grid that comes out of a part or a block; a module that does not tell keeps it."""
    tell = getattr(module, "out_size", None)
    return size if tell is None else tell(size)


def run_block(block: nn.Module, tokens: Tokens, recompute: bool) -> Tokens:
    """Call a block on tokens; with `recompute` its activations are computed again in the backward pass."""
    reads, gives = getattr(block, "reads", ()), getattr(block, "gives", ())
    names = tuple(name for name in reads if name in tokens.carry)
    given = tokens.body, tokens.extra_body, *(tokens.carry[name] for name in names)
    call = partial(block, size=tokens.size, prefix=tokens.prefix, layout=tokens.layout, names=names)
    if not recompute or not torch.is_grad_enabled():
        out = call(*given)
    elif torch.compiler.is_compiling():  # a compiler recomputes without calling the block again, and takes no contexts
        out = checkpoint(call, *given, use_reentrant=False)
    else:
        out = checkpoint(call, *given, use_reentrant=False, context_fn=partial(_contexts, block))
    x, *rest = out if isinstance(out, tuple) else (out,)
    extra = None if tokens.joined else rest.pop(0)
    carry = {**tokens.carry, **dict(zip(gives, rest, strict=True))} if gives else tokens.carry
    return Tokens(x, out_size(block, tokens.size), extra, tokens.prefix, tokens.layout, carry)


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
