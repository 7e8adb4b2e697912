"""Base of attention parts: scaled dot-product attention, fused or explicit, and recording of attention maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.parts.attention.places import KeyGrid, Places, Weights, every
from hexavit.parts.contract import PartModule, Scope, Size, Tokens
from hexavit.parts.layers import dropout, dropped, known

Scale = Literal["dim", "head_dim"]
_FEW = 16  # keys


class Attention(PartModule):
    """Base of attention parts: `forward(tokens) -> tokens`, the same number unless stated.

    Composition sets the position parts inside the attention, if it `offers` a place for them: `position` acts on the
    logits, `value_position` on the values. Where the attention has several `scopes`, each is a list with one module for
    each scope.
    """

    offers: ClassVar[frozenset[str]] = frozenset()
    """Where a position part may act inside the attention: `logits`, `values`."""
    fused: Literal["always", "eval", "never"] = "always"
    """When `scaled_dot_product_attention` is used; `fused_reason` is the reason if not `always`. Options may change
    this and the next two."""
    fused_reason: str = ""
    maps_are: Literal["probabilities", "mixed"] = "probabilities"
    """What `record_attention` gives: rows that sum to 1, or maps mixed across heads or not normed by a softmax, as
    multiplied with the values. An option may change it."""
    rows_apart: bool = True
    """Whether the weights of a query depend on its own logits alone, so that rows can be computed in pieces."""
    extra_mean: ClassVar[bool] = False
    """Whether extra tokens get the mean of what image tokens get."""
    last = "proj"
    heads: int
    proj: Any  # a linear or a convolution
    stride: int = 1
    """Factor by which the output grid is smaller than the input grid, per axis."""

    def __init__(self, attn_drop: float = 0.0, proj_drop: float = 0.0) -> None:
        super().__init__()
        self.fuse = True
        self.maps: list[Tensor] | None = None
        self.reader: Callable[[Weights], None] | None = None
        if not 0 <= attn_drop <= 1:
            raise ValueError(f"attn_drop is a probability between 0 and 1, not {attn_drop}")
        self.attn_drop = attn_drop
        self.proj_drop = dropout(proj_drop)
        self.position: nn.Module | None = None
        self.value_position: nn.Module | None = None

    def forward(self, tokens: Tokens) -> Tokens:
        """Tokens to tokens of the same width."""
        raise NotImplementedError

    def _set_heads(self, dim: int, heads: int, head_dim: int | None) -> int:
        """Set the width C, the number of heads h and their width d (see `head_width`); returns A = h d."""
        self.dim, self.heads = dim, heads
        self.head_dim = head_width(dim, heads, head_dim)
        return heads * self.head_dim

    def scope(self, size: Size) -> Size:
        """The grid on which queries and keys meet, of a map of `size`: all of it, unless there are windows."""
        return size

    def scopes(self, size: Size) -> tuple[Scope, ...]:
        """Where the heads meet, of a map of `size`: one scope for all heads unless they differ."""
        return (Scope(self.scope(size), self.scope(size), self.heads),)

    def positions(self, size: Size) -> Iterator[tuple[nn.Module, Scope]]:
        """The position parts inside, each with its scope."""
        for held in (self.position, self.value_position):
            if held is not None:
                modules = held if isinstance(held, nn.ModuleList) else [held]
                yield from zip(modules, self.scopes(size), strict=True)

    def query_grid(self, size: Size) -> Size:
        """The grid of the queries, of a map of `size`."""
        return self.out_size(size)

    def key_grids(self, size: Size) -> tuple[KeyGrid, ...]:
        """The grids of the keys, and the cells of a map of `size` for which they stand."""
        return (KeyGrid(size),)

    def places(self, size: Size, extra: int) -> tuple[Places, ...]:
        """Where the queries and keys of its weights stand: for each call of `reader` in a pass, in their order."""
        keys = extra + sum(math.prod(grid.size) for grid in self.key_grids(size))
        return (Places(every(extra + math.prod(self.query_grid(size))), every(keys)[None]),)

    def set_size(self, size: Size) -> None:
        """Rebuild what depends on the grid; here the positions that act inside, on their scopes."""
        for position, scope in self.positions(size):
            if isinstance(position, PartModule):
                position.set_scope(scope)

    def before_softmax(self, logits: Tensor) -> Tensor:
        """Change the logits (B, h, N, M); a part that does is `fused = "never"`."""
        return logits

    def after_softmax(self, attention: Tensor) -> Tensor:
        """Change the attention maps (B, h, N, M); a part that does is `fused = "never"`."""
        return attention

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, *, scale: float, bias: Tensor | None = None, record: bool = True
    ) -> Tensor:
        """softmax(scale q k^T + bias) v.

        Args:
            q: (B, h, N, d).
            k: (B, h, M, d).
            v: (B, h, M, d').
            scale: the factor on q k^T.
            bias: added to the logits, broadcast to (B, h, N, M).
            record: whether the maps of this call are part of what `record_attention` gives.

        Returns:
            (B, N, h d'), heads side by side.
        """
        drop = self.attn_drop if self.training else 0.0
        served = self.fused == "always" or (self.fused == "eval" and not self.training)
        if self.fuse and served and self.maps is None:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=drop, scale=scale)
        elif served and bias is None and torch.compiler.is_exporting() and known(k.shape[2]) and k.shape[2] <= _FEW:
            # Engines are faster with three axes where maps are small; OpenVINO's fused kernel takes four.
            q3, k3, v3 = (t.flatten(0, 1) for t in (q, k, v))
            out = self._explicit(q3, k3, v3, scale, None, record).unflatten(0, (-1, q.shape[1]))
        else:
            out = self._explicit(q, k, v, scale, bias, record)
        if self.reader is not None:
            shape = (*q.shape[:3], k.shape[2])
            self.reader(Weights(shape, partial(self._rows, q, k, scale, bias), v, out))
        out = out.transpose(1, 2)
        if torch.compiler.is_exporting():  # the kernels differ in strides: a view recorded of one may not fit another
            out = out.clone(memory_format=torch.contiguous_format)
        return out.flatten(2)

    def output(self, mixed: Tensor) -> Tensor:
        """The last linear of attended values (B, N, h d'), and dropout: (B, N, C)."""
        return self.dropped(self.proj(mixed))

    def dropped(self, x: Tensor) -> Tensor:
        """`x` with dropout at the rate of the output, if there is one."""
        return dropped(x, self.proj_drop)

    def weighed(self, logits: Tensor, v: Tensor, record: bool = True) -> Tensor:
        """softmax(logits) v by an explicit softmax: (B, h, N, M) and (B, h, M, d') to (B, h, N, d')."""
        out, attention = self._weighed(logits, v, record)
        if self.reader is not None:
            self.reader(Weights.of(attention.detach())._replace(values=v, out=out))
        return out

    def _explicit(self, q: Tensor, k: Tensor, v: Tensor, scale: float, bias: Tensor | None, record: bool) -> Tensor:
        """softmax(scale q k^T + bias) v, each step an operation: (..., N, d')."""
        logits = (q * scale) @ k.transpose(-2, -1)
        return self._weighed(logits if bias is None else logits + bias, v, record)[0]

    def _weighed(self, logits: Tensor, v: Tensor, record: bool) -> tuple[Tensor, Tensor]:
        """As `weighed`, and the weights."""
        attention = self.after_softmax(self.before_softmax(logits).softmax(dim=-1))
        if self.maps is not None and record:
            self.maps.append(attention.detach())
        return F.dropout(attention, self.attn_drop if self.training else 0.0).to(v.dtype) @ v, attention

    def show_filters(self, filters: Tensor, places: tuple[int, ...]) -> None:
        """Give the filters of neighbours to `maps` and `reader`.

        Args:
            filters: (B, H, W, G, k^2), where 1 stands for all images, rows or columns.
            places: (B, H, W).
        """
        if self.maps is None and self.reader is None:
            return
        count = places[1] * places[2]
        maps = filters.detach().flatten(1, 2).expand(places[0], count, -1, -1).transpose(1, 2)  # (B, G, N, k^2)
        if self.maps is not None:
            self.maps.append(maps)
        if self.reader is not None:
            self.reader(Weights.of(maps))

    def _rows(self, q: Tensor, k: Tensor, scale: float, bias: Tensor | None, windows: slice, queries: slice) -> Tensor:
        """The attention weights of some windows and queries (w, h, n, M), computed from q, k and bias of all."""
        read = queries if self.rows_apart else slice(None)
        logits = (q[windows, :, read] * scale) @ k[windows].transpose(-2, -1)
        if bias is not None:
            bias = bias if bias.shape[0] == 1 else bias[windows]
            logits = logits + (bias if bias.shape[2] == 1 else bias[:, :, read])
        weights = self.after_softmax(self.before_softmax(logits).softmax(dim=-1))
        return weights if self.rows_apart else weights[:, :, queries]


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, N, h d) to (B, h, N, d), a view."""
    apart: Tensor = x.unflatten(2, (heads, -1))
    return apart.transpose(1, 2)


def split_joint(x: Tensor, count: int, heads: int) -> tuple[Tensor, ...]:
    """The output (B, N, count h d) of a joint linear to `count` tensors (B, h, N, d), views."""
    apart: tuple[Tensor, ...] = x.unflatten(2, (count, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    return apart


def attention_scale(scale: Scale | float, dim: int, head_dim: int) -> float:
    """The factor on q k^T: C^-0.5 for `dim`, d^-0.5 for `head_dim`, or a number as it is."""
    return {"dim": dim**-0.5, "head_dim": head_dim**-0.5}[scale] if isinstance(scale, str) else scale


def head_width(dim: int, heads: int, head_dim: int | None) -> int:
    """The width d of one head: `head_dim` if given, else dim / heads.

    Raises:
        ValueError: neither is positive, or `dim` does not divide by `heads`.
    """
    if heads < 1 or (head_dim is not None and head_dim < 1):
        raise ValueError(f"heads and head_dim must be at least 1, not {heads} and {head_dim}")
    if head_dim is None and dim % heads:
        raise ValueError(f"a width of {dim} does not divide by {heads} heads: change heads, or give head_dim")
    return head_dim or dim // heads


@contextmanager
def softmax_path(model: nn.Module) -> Iterator[None]:
    """Run every attention of `model` by an explicit softmax, as long as the context is open.

    The result is that of the fused kernel within floating-point rounding. The explicit softmax has second derivatives,
    which PyTorch's fused kernels lack: gradient penalties, Hessian products and influence functions need it.
    So does `torch.func.vmap` over weights with gradients on, where the logits have a learned bias: inside it PyTorch
    does not see that the bias needs a gradient, and chooses a kernel without one.

    Example:
        >>> with hexavit.parts.softmax_path(model):
        ...     loss = criterion(model(images), labels)
        ...     (gradient,) = torch.autograd.grad(loss, images, create_graph=True)
        ...     gradient.square().sum().backward()
    """
    parts = [m for m in model.modules() if isinstance(m, Attention)]
    before = [part.fuse for part in parts]
    for part in parts:
        part.fuse = False
    try:
        yield
    finally:
        for part, fuse in zip(parts, before, strict=True):
            part.fuse = fuse


@contextmanager
def record_attention(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Record the attention maps of `model`, as long as the context is open.

    A recorded pass takes the explicit softmax (see `softmax_path`).

    Yields:
        For the path of each attention part, a list to which each of its calls appends its maps (B, h, N, M).
    """
    parts = {name: m for name, m in model.named_modules() if isinstance(m, Attention)}
    maps: dict[str, list[Tensor]] = {name: [] for name in parts}
    for name, part in parts.items():
        part.maps = maps[name]
    try:
        yield maps
    finally:
        for part in parts.values():
            part.maps = None
