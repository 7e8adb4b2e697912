"""The contract between parts: one small value that travels, and what a part says of itself.

Notation: B images, N tokens on a grid of H x W, C width, P extra tokens (class, distillation, messengers).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

Size = tuple[int, int]
"""Height and width, of an image in pixels or of a grid in tokens."""

Layout = Literal["raster", "points", "set"]
"""What a set of tokens is: a full grid, points with coordinates, or a set without places."""

Act = Literal["none", "tokens", "block", "logits", "values"]
"""Where a position part acts: nowhere, on the tokens that enter a stage, after a block, on the attention
logits, or on the values."""


class Tokens:
    """Image tokens and, apart from them, extra tokens: immutable, in one of two forms.

    *Split*: image tokens (B, N, C), contiguous where a part made them so, and extra tokens (B, P, C).
    *Joined*: one sequence (B, P + N, C), the extra tokens first. Without extra tokens the forms are the same.
    A part asks for the form it reads (`grid`, `image`, `extra`, `sequence`); only then, and only if the other form
    is held, something is copied. `carry` holds what else a stage hands on, by declared names.
    """

    __slots__ = ("_body", "_extra", "carry", "layout", "prefix", "size")

    def __init__(
        self,
        body: Tensor,
        size: Size,
        *,
        extra: Tensor | None = None,
        prefix: int = 0,
        layout: Layout = "raster",
        carry: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Split if `extra` is given or `prefix` is 0, else joined with the first `prefix` tokens extra.

        For `points` and `set`, `size` is (N, 1): there is no grid to read.
        """
        self._body = body
        self._extra = extra
        self.size = size
        self.prefix = prefix if extra is None else extra.shape[1]
        self.layout = layout
        self.carry: Mapping[str, Tensor] = carry or {}

    @classmethod
    def of_grid(cls, grid: Tensor, extra: Tensor | None = None) -> Tokens:
        """Tokens of a grid (B, H, W, C) and extra tokens (B, P, C)."""
        return cls(grid.flatten(1, 2), (grid.shape[1], grid.shape[2]), extra=extra)

    @classmethod
    def of_map(cls, feature_map: Tensor) -> Tokens:
        """Tokens of a convolution's output (B, C, H, W); free where the memory is channels-last."""
        return cls.of_grid(feature_map.permute(0, 2, 3, 1).contiguous())

    @property
    def joined(self) -> bool:
        """Whether extra and image tokens stand in one sequence."""
        return self._extra is None

    @property
    def image(self) -> Tensor:
        """Image tokens (B, N, C); a view, which behind joined extra tokens is not contiguous."""
        return self._body[:, self.prefix :] if self.joined and self.prefix else self._body

    @property
    def extra(self) -> Tensor | None:
        """Extra tokens (B, P, C), or None."""
        if not self.prefix:
            return None
        return self._body[:, : self.prefix] if self._extra is None else self._extra

    @property
    def grid(self) -> Tensor:
        """Image tokens (B, H, W, C), contiguous: what a convolution reads without copying."""
        grid: Tensor = self.image.contiguous().unflatten(1, self.size)
        return grid

    @property
    def map(self) -> Tensor:
        """Image tokens (B, C, H, W) in channels-last memory; a view of `grid`."""
        return self.grid.permute(0, 3, 1, 2)

    @property
    def sequence(self) -> Tensor:
        """All tokens (B, P + N, C), the extra ones first."""
        return self._body if self._extra is None else torch.cat((self._extra, self._body), dim=1)

    def join(self) -> Tokens:
        """The same tokens in joined form."""
        return self if self.joined else self._with(self.sequence, None, self.prefix)

    def split(self) -> Tokens:
        """The same tokens in split form, the image tokens contiguous."""
        if not self.prefix or not self.joined:
            return self
        return self._with(self.image.contiguous(), self.extra, 0)

    def each(self, function: Callable[[Tensor], Tensor]) -> Tokens:
        """Apply a position-wise function, (B, M, C) to (B, M, C'), in the form held."""
        extra = None if self._extra is None else function(self._extra)
        return self._with(function(self._body), extra, self.prefix)

    def plus(self, other: Tokens) -> Tokens:
        """The sum with tokens of the same number, in this one's form; the other's is read through views, and what it
        carries is handed on with what this one carries."""
        if self.joined:
            twin = self._with(self._body + other.sequence, None, self.prefix)
        else:
            extra = other.extra
            assert self._extra is not None and extra is not None
            twin = self._with(self._body + other.image, self._extra + extra, 0)
        twin.carry = {**self.carry, **other.carry}
        return twin

    def with_image(self, image: Tensor, size: Size | None = None) -> Tokens:
        """The same extra tokens and carry, in split form, with other image tokens (B, N, C)."""
        return Tokens(image, size or self.size, extra=self.extra, layout=self.layout, carry=self.carry)

    def with_extra(self, extra: Tensor) -> Tokens:
        """The same image tokens, in split form, with extra tokens (B, P, C) put behind those already there."""
        held = self.extra
        extra = extra if held is None else torch.cat((held, extra), dim=1)
        return Tokens(self.image, self.size, extra=extra, layout=self.layout, carry=self.carry)

    def replace_extra(self, extra: Tensor) -> Tokens:
        """The same image tokens, in split form, with these extra tokens (B, P, C) instead of those held."""
        return Tokens(self.image, self.size, extra=extra, layout=self.layout, carry=self.carry)

    def with_carry(self, **carried: Tensor) -> Tokens:
        """The same tokens, handing on more by name; see `Part.gives`."""
        twin = self._with(self._body, self._extra, self.prefix)
        twin.carry = {**self.carry, **carried}
        return twin

    def _with(self, body: Tensor, extra: Tensor | None, prefix: int) -> Tokens:
        return Tokens(body, self.size, extra=extra, prefix=prefix, layout=self.layout, carry=self.carry)


class PartModule(nn.Module):
    """What every part says of itself. The defaults serve a position-wise part; a part states what differs.

    A constructor's positional parameters are what the house knows and fills in by name (`dim`, `in_dim`, `heads`,
    `size`, `extra`, `stride`, `norm_eps`, `drop_path`, `index`, `scope`, `head_dim`, `num_classes`, `role`, `blocks`,
    `shared`: modules that a stage's blocks have in common, by names of their own); its keyword-only parameters are the
    part's options, with the one place for their defaults.
    """

    needs: ClassVar[Literal["any", "points", "raster"]] = "any"
    """What the tokens must be: `raster` refuses points and sets, `points` refuses sets."""
    reads_grid: bool = False
    """Whether it reads `Tokens.grid` or `.map`: then the stage holds its tokens split. An option may change it."""
    takes: ClassVar[tuple[str, ...]] = ()
    """Names in `Tokens.carry` that it reads; an earlier part of the model must give them."""
    gives: ClassVar[tuple[str, ...]] = ()
    """Names in `Tokens.carry` that it writes."""
    keeps_extra: ClassVar[bool] = True
    """Whether extra tokens pass through; a tokens part that changes the width or the number cannot keep them."""
    needs_extra: ClassVar[bool] = False
    """Whether it works on extra tokens alone; the head must bring some."""
    keeps_image: ClassVar[bool] = False
    """Whether image tokens leave a residual as they came: such a block gives no feature map of its own."""
    traced: ClassVar[str] = ""
    """What a graph of dynamic sizes keeps of the size that it was traced at, in words; most parts keep nothing."""
    first_conv: ClassVar[str | None] = None
    """A tokens part's convolution that reads the image, by its name inside; None where none does."""
    acts: ClassVar[Act] = "none"
    """Where a position part acts; `logits` and `values` must be offered by the attention part."""
    no_decay: ClassVar[tuple[str, ...]] = ()
    """Names of its own parameters that weight decay leaves alone (biases and norms always are)."""
    constants: ClassVar[tuple[str, ...]] = ()
    """Names of its own tables that an authors' state dict may hold as parameters, though nothing trains them."""
    last: ClassVar[str | None] = None
    """Its last linear or convolution, by its name inside; None for the last that it registers."""
    weights_in_a_row: ClassVar[int] = 2
    """How many linears and convolutions a value passes inside, one behind the other: Fixup's starting rule asks."""

    @classmethod
    def inside(cls, chosen: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Parts of other shelves whose work it does within itself, as (shelf, name), given all its options."""
        return ()

    def out_size(self, size: Size) -> Size:
        """The grid that comes out for a grid that goes in."""
        return size

    def set_size(self, size: Size) -> None:
        """Rebuild what depends on the grid (tables, windows) for another one."""

    def macs(self, size: Size, extra: int = 0) -> int:
        """Multiply-adds for one image whose tokens come in on a grid of `size` with `extra` extra tokens; of a position
        inside an attention `size` is the scope."""
        return 0


def rows(size: Size, extra: int) -> int:
    """Tokens in all: N + P."""
    return size[0] * size[1] + extra
