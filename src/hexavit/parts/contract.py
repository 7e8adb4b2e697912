"""The contract between parts: `Tokens`, which parts take and give, and `PartModule`, what a part declares.

Notation: B images, N tokens on a grid of H x W, C channels, P extra tokens (class, distillation, messengers).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn

from hexavit.parts.reshaping import reshaped

Size = tuple[int, int]
"""Height and width, of an image in pixels or of a grid in tokens."""

Layout = Literal["raster", "points", "set"]
"""What image tokens are: a full grid, points with coordinates, or a set without places."""

Act = Literal["none", "tokens", "block", "logits", "values"]
"""Where a position part acts: nowhere, on the tokens that enter a stage, after a block, on the attention
logits, or on the values."""


class Scope(NamedTuple):
    """A group of heads of an attention, and where they meet.

    Attributes:
        queries: grid (h, w) of the queries that attend together: a window, or the whole map.
        keys: grid of their keys.
        heads: number of heads.
        windows: number of such grids in a map, the padding included.
    """

    queries: Size
    keys: Size
    heads: int
    windows: int = 1


class _TokenFields(NamedTuple):
    body: Tensor
    size: Size
    extra_body: Tensor | None
    prefix: int
    layout: Layout
    carry: Mapping[str, Tensor]


class Tokens(_TokenFields):
    """Image tokens and extra tokens, in one of two forms. Immutable: each method gives a new value.

    *Split*: image tokens (B, N, C) and, apart from them, extra tokens (B, P, C). *Joined*: one sequence (B, P + N, C),
    the extra tokens first. Without extra tokens the two forms are the same.

    A part reads the form that it needs: `grid`, `map`, `image`, `extra` or `sequence`. Memory is copied only where the
    other form is held. A stage holds its tokens split if one of its parts declares `reads_grid`, because a convolution
    would otherwise copy the slice behind the extra tokens at every call.

    A named tuple, so that PyTorch's tools (pytrees, hooks, FSDP, gradient checkpointing) find its tensors.

    Attributes:
        size: height and width of the grid; (N, 1) for `points` and `set`.
        prefix: number of extra tokens P.
        layout: `raster`, `points` or `set`.
        carry: further tensors that parts hand on, by the names that they declare in `gives` and `takes`.
    """

    __slots__ = ()

    def __new__(
        cls,
        body: Tensor,
        size: Size,
        extra: Tensor | None = None,
        prefix: int = 0,
        layout: Layout = "raster",
        carry: Mapping[str, Tensor] | None = None,
    ) -> Self:
        """Split form if `extra` is given or `prefix` is 0, else joined form with `prefix` extra tokens first.

        Args:
            body: image tokens (B, N, C), or the joined sequence (B, P + N, C).
            size: height and width of the grid.
            extra: extra tokens (B, P, C) of the split form.
            prefix: number of extra tokens at the front of `body`; not read if `extra` is given.
            layout: what the image tokens are.
            carry: further tensors by name.
        """
        count = prefix if extra is None else extra.shape[1]
        return super().__new__(cls, body, size, extra, count, layout, carry or {})

    @classmethod
    def of_grid(cls, grid: Tensor, extra: Tensor | None = None) -> Tokens:
        """Tokens of a grid (B, H, W, C), and extra tokens (B, P, C)."""
        return cls(grid.flatten(1, 2), (grid.shape[1], grid.shape[2]), extra=extra)

    @classmethod
    def of_map(cls, feature_map: Tensor) -> Tokens:
        """Tokens of a map (B, C, H, W); a view if the memory is channels-last, else a copy."""
        return cls.of_grid(feature_map.permute(0, 2, 3, 1).contiguous())

    @property
    def joined(self) -> bool:
        """Whether extra and image tokens are in one sequence."""
        return self.extra_body is None

    @property
    def image(self) -> Tensor:
        """Image tokens (B, N, C): a view, not contiguous behind joined extra tokens."""
        return self.body[:, self.prefix :] if self.joined and self.prefix else self.body

    @property
    def extra(self) -> Tensor | None:
        """Extra tokens (B, P, C), or None if there are none."""
        if not self.prefix:
            return None
        return self.body[:, : self.prefix] if self.extra_body is None else self.extra_body

    @property
    def grid(self) -> Tensor:
        """Image tokens (B, H, W, C), contiguous: a convolution reads them without a copy."""
        image, (h, w) = self.image, self.size
        return reshaped(image, (image.shape[0], h), w, image.shape[2])

    @property
    def map(self) -> Tensor:
        """Image tokens (B, C, H, W) in channels-last memory: a view of `grid`."""
        return self.grid.permute(0, 3, 1, 2)

    @property
    def sequence(self) -> Tensor:
        """All tokens (B, P + N, C), the extra ones first."""
        return self.body if self.extra_body is None else torch.cat((self.extra_body, self.body), dim=1)

    def join(self) -> Tokens:
        """The same tokens in joined form."""
        return self if self.joined else self._with(self.sequence, None, self.prefix)

    def split(self) -> Tokens:
        """The same tokens in split form, the image tokens contiguous."""
        if not self.prefix or not self.joined:
            return self
        return self._with(self.image.contiguous(), self.extra, 0)

    def each(self, function: Callable[[Tensor], Tensor]) -> Tokens:
        """Apply a position-wise function, (B, M, C) to (B, M, C'), to all tokens.

        In split form the function is called twice, for image tokens and for extra tokens.
        """
        extra = None if self.extra_body is None else function(self.extra_body)
        return self._with(function(self.body), extra, self.prefix)

    def plus(self, other: Tokens) -> Tokens:
        """The sum with as many other tokens, in the form of this one, with what both carry."""
        if self.extra_body is None:
            total = self._with(self.body + other.sequence, None, self.prefix)
        else:
            extra = other.extra
            assert extra is not None  # as many tokens as here
            total = self._with(self.body + other.image, self.extra_body + extra, 0)
        return total.with_carry(**other.carry)

    def with_image(self, image: Tensor, size: Size | None = None) -> Tokens:
        """The same extra tokens and carry with other image tokens (B, N, C), in split form."""
        return Tokens(image, size or self.size, extra=self.extra, layout=self.layout, carry=self.carry)

    def with_extra(self, extra: Tensor) -> Tokens:
        """The same image tokens with extra tokens (B, P, C) behind the extra tokens that there are, in split form."""
        held = self.extra
        extra = extra if held is None else torch.cat((held, extra), dim=1)
        return self.replace_extra(extra)

    def replace_extra(self, extra: Tensor) -> Tokens:
        """The same image tokens with these extra tokens (B, P, C) instead, in split form."""
        return Tokens(self.image, self.size, extra=extra, layout=self.layout, carry=self.carry)

    def with_carry(self, **carried: Tensor) -> Tokens:
        """The same tokens with further carried tensors; a name that is carried already is replaced."""
        if not carried:
            return self
        return Tokens(
            self.body, self.size, self.extra_body, self.prefix, layout=self.layout, carry={**self.carry, **carried}
        )

    def to(self, *args: Any, **kwargs: Any) -> Tokens:
        """The same tokens with `Tensor.to(...)` applied to every tensor."""
        extra = None if self.extra_body is None else self.extra_body.to(*args, **kwargs)
        carry = {name: tensor.to(*args, **kwargs) for name, tensor in self.carry.items()}
        return Tokens(self.body.to(*args, **kwargs), self.size, extra, self.prefix, self.layout, carry)

    def _with(self, body: Tensor, extra: Tensor | None, prefix: int) -> Tokens:
        count = prefix if extra is None else extra.shape[1]
        return tuple.__new__(Tokens, (body, self.size, extra, count, self.layout, self.carry))


class PartModule(nn.Module):
    """Base of all parts: what a part declares. The defaults are right for a position-wise part.

    The positional parameters of a constructor are its *context*: values that composition knows and fills in by name
    (`hexavit.parts.registry.CONTEXT`). Its keyword-only parameters are the part's options, with their defaults.
    """

    needs: ClassVar[Literal["any", "points", "raster"]] = "any"
    """Layout of the tokens that it can read: `raster` excludes points and sets, `points` excludes sets."""
    reads_grid: bool = False
    """Whether it reads `Tokens.grid` or `Tokens.map`: its stage then holds split tokens. An option may set it."""
    takes: ClassVar[tuple[str, ...]] = ()
    """Names in `Tokens.carry` that it reads; an earlier part of the model must give them."""
    gives: ClassVar[tuple[str, ...]] = ()
    """Names in `Tokens.carry` that it writes."""
    given_shapes: Mapping[str, tuple[int, ...]] = MappingProxyType({})
    """Shapes of what it gives in `Tokens.carry` for the tokens of this grid, by name: with a row for each image token,
    (B, N, ...), without B and N; of maps between tokens, (B, h, M, M), heads and number of tokens. Parts that take it
    find them in the context `carried`, up to the next tokens part that changes the grid."""
    lower_dims: tuple[int, ...]
    """Of a tokens part: widths of the lower resolutions that it gives. One that does not set it keeps those that there
    are if it changes neither grid nor width."""
    joins_resolutions: ClassVar[bool] = False
    """Whether a branch's part works on all resolutions of a stage together; others exist for each resolution."""
    keeps_extra: ClassVar[bool] = True
    """Whether extra tokens pass through: not in a tokens part that changes the width or the number of tokens."""
    needs_messengers: ClassVar[bool] = False
    """Whether it works on extra tokens that a tokens part brings, one for each window; those are the last ones."""
    needs_extra: ClassVar[bool] = False
    """Whether it works on extra tokens alone: the head must then bring some."""
    keeps_image: ClassVar[bool] = False
    """Whether a residual leaves image tokens unchanged: such a block has no feature map of its own."""
    traced: ClassVar[str] = ""
    """What an exported graph of dynamic sizes keeps of the size at which it was traced, in words; empty for nothing."""
    first_conv: ClassVar[str | None] = None
    """Name, inside a tokens part, of the convolution that reads the image; None if there is none."""
    acts: ClassVar[Act] = "none"
    """Where a position part acts; the attention part must offer `logits` and `values`."""
    two_grids: ClassVar[bool] = False
    """Whether a position on the logits can have queries on one grid and keys on another."""
    no_decay: ClassVar[tuple[str, ...]] = ()
    """Names of its own parameters that are exempt from weight decay (biases and norms always are)."""
    constants: ClassVar[tuple[str, ...]] = ()
    """Names of its own tables that an authors' state dict may hold as parameters, though they are not trained."""
    starts_at_zero: ClassVar[tuple[str, ...]] = ()
    """Names, inside the part, of linears whose weight and bias start at 0, by whatever scheme the others start."""
    last: ClassVar[str | None] = None
    """Name, inside the part, of its last linear or convolution; None for the last that it registers. Fixup reads it."""
    out_dim: int | None = None
    """Width of the tokens that come out, if it is another than the stage's or, of a tokens part, than asked for."""
    brings_extra: ClassVar[bool] = False
    """Whether a tokens part adds extra tokens; `extra_out` then counts them."""
    weights_in_a_row: ClassVar[int] = 2
    """Number of linears and convolutions that a value passes in the part. Fixup's initialisation reads it."""

    @classmethod
    def inside(cls, chosen: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Parts of other kinds that it contains, as (kind, name), given all its options."""
        return ()

    def out_size(self, size: Size) -> Size:
        """The grid that comes out for a grid that goes in."""
        return size

    def extra_out(self, extra: int, size: Size) -> int:
        """The number of extra tokens behind a tokens part, for `extra` before it and the grid that comes out."""
        return extra if self.keeps_extra else 0

    def set_size(self, size: Size) -> None:
        """Rebuild what depends on the grid (tables, windows) for another grid."""

    def set_scope(self, scope: Scope) -> None:
        """Rebuild a position inside an attention for another scope; by default for the grid of the queries."""
        self.set_size(scope.queries)

    def macs(self, size: Size, extra: int = 0) -> int:
        """Multiply-adds for one image.

        Args:
            size: the grid of the tokens that come in; for a position inside an attention, the attention's scope.
            extra: number of extra tokens.
        """
        return 0

    def macs_inside(self, size: Size, scope: Scope) -> int:
        """Multiply-adds for one image of a position inside an attention.

        Args:
            size: the grid of the tokens that reach the attention.
            scope: where its heads meet.
        """
        return self.macs(scope.queries)


def lower_names(count: int) -> tuple[str, ...]:
    """Names in `carry` of the lower resolutions of a stage: grids (B, H / 2, W / 2, 2 C), and so on"""
    return tuple(f"resolution{r}" for r in range(1, count + 1))


def halves(size: Size, count: int) -> list[Size]:
    """A grid and `count` more, each of half the sides of the one before, rounded up."""
    sizes = [size]
    for _ in range(count):
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


def rows(size: Size, extra: int) -> int:
    """Number of all tokens: N + P."""
    return size[0] * size[1] + extra
