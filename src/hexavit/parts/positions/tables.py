"""Absolute position tables, learned or sine-cosine, added to the tokens that enter a stage."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from hexavit.errors import nearest
from hexavit.parts.contract import PartModule, Size, Tokens
from hexavit.parts.layers import RESIZE_METHODS, ComputedBuffers, dropout, known, resize_table
from hexavit.parts.registry import register_part

Resize = Literal["bilinear", "bilinear_plain", "bicubic", "bicubic_plain"]


@register_part("position", "learned")
class LearnedPosition(PartModule):
    """A learned table with one row per token, added to the tokens (ViT: Dosovitskiy et al., ICLR 2021, eq. 1).

    A resized table is approximate, because its rows were not trained.

    Shapes: (B, P + N, C) to the same. Cost: parameters (P + N) C; multiply-adds none (N C additions).

    Args:
        extra_rows: whether extra tokens that enter with the stage have rows, the first ones; CaiT's have none.
        drop: dropout rate of the sum.
        resize: method by which the rows of image tokens are resized for another grid: `bilinear` with aligned corners
            (ViT's authors, scipy's zoom), `bilinear_plain` (PVT), `bicubic` (timm) or `bicubic_plain` (DeiT).
        decay: whether the table has weight decay; None for the choice of the method's authors: PVT's code
            (`bilinear_plain`) decays its tables, the others exempt them.

    Raises:
        ValueError: an unknown resize method.
    """

    acts = "tokens"

    def __init__(
        self,
        dim: int,
        size: Size,
        extra: int,
        *,
        extra_rows: bool = True,
        drop: float = 0.0,
        resize: Resize = "bilinear",
        decay: bool | None = None,
    ) -> None:
        super().__init__()
        if resize not in RESIZE_METHODS:
            raise ValueError(f"there is no resize method {resize!r}: {nearest(resize, RESIZE_METHODS)}")
        self.size, self.resize = size, resize
        decayed = resize == "bilinear_plain" if decay is None else decay
        self.no_decay = () if decayed else ("table",)  # type: ignore[misc]  # chosen by an option
        self.prefix = extra if extra_rows else 0
        self.table = nn.Parameter(torch.empty(1, self.prefix + size[0] * size[1], dim))
        nn.init.trunc_normal_(self.table, std=0.02)
        self.drop = dropout(drop)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + N, C) to the same."""
        placed = add_table(tokens, self.table_at(tokens.size), self.prefix)
        return placed if self.drop is None else placed.each(self.drop)

    def table_at(self, size: Size) -> Tensor:
        """The table (1, P + N, C) for a grid of `size`."""
        # A traced size has no value to compare; resizing to the same size is then an identity.
        if all(isinstance(n, int) for n in size) and tuple(size) == self.size:
            return self.table
        return resize_table(self.table, self.size, size, self.prefix, self.resize)

    @torch.no_grad()
    def set_size(self, size: Size) -> None:
        """Resize the table to another grid."""
        self.table = nn.Parameter(self.table_at(size).clone(), requires_grad=self.table.requires_grad)
        self.size = size

    @torch.no_grad()
    def adopt(self, other: LearnedPosition) -> None:
        """Copy another table's values, resized; rows of extra tokens that only one of the two has are not copied."""
        shared = min(self.prefix, other.prefix)
        table = other.table_at(self.size)
        self.table[:, self.prefix :] = table[:, other.prefix :]
        self.table[:, :shared] = table[:, :shared]


@register_part("position", "sine_cosine")
class SineCosinePosition(ComputedBuffers, PartModule):
    """The original Transformer's fixed sinusoids over the token's number (Vaswani et al., 2017, section 3.5).

    angle(p, j) = p / 10000^(2 floor(j / 2) / C); sine at even j, cosine at odd j. Tokens are numbered row by row,
    extra ones first (p = 0 is the class token), as in T2T-ViT. Computed for the size at hand, so any size is exact.

    Shapes: (B, P + N, C) to the same. Cost: constants (P + N) C; multiply-adds none (N C additions).
    """

    acts = "tokens"
    constants = ("table",)
    table: Tensor

    def __init__(self, dim: int, size: Size, extra: int) -> None:
        super().__init__()
        self.dim, self.extra, self.size = dim, extra, size
        self.init_non_persistent_buffers()

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + N, C) to the same."""
        length = tokens.prefix + tokens.size[0] * tokens.size[1]
        if known(*tokens.size) and length <= self.table.shape[1]:
            table = self.table[:, :length].to(tokens.image.device)
        else:
            table = sine_cosine(length, self.dim).to(tokens.image.device, self.table.dtype)
        return add_table(tokens, table, tokens.prefix)

    def set_size(self, size: Size) -> None:
        """Compute the table for another grid."""
        self.size = size
        self.init_non_persistent_buffers()

    def computed_buffers(self) -> dict[str, Tensor]:
        """The table (1, P + N, C)."""
        return {"table": sine_cosine(self.extra + self.size[0] * self.size[1], self.dim)}


def sine_cosine(length: int, dim: int) -> Tensor:
    """The sinusoids (1, N, C) of tokens 0 to N - 1, on the CPU."""
    j = torch.arange(dim, dtype=torch.float64, device="cpu")
    frequency = torch.exp(-math.log(10000.0) * 2 * (j // 2) / dim)
    angle = torch.arange(length, dtype=torch.float64, device="cpu")[:, None] * frequency
    return torch.where(j % 2 == 0, angle.sin(), angle.cos()).float()[None]


def add_table(tokens: Tokens, table: Tensor, prefix: int) -> Tokens:
    """Add a table (1, p + N, C) to tokens (B, P + N, C), with p either P or 0: then extra tokens stay as they are."""
    if prefix == tokens.prefix:
        return tokens.plus(Tokens(table, tokens.size, prefix=prefix))
    return tokens.with_image(tokens.image + table)
