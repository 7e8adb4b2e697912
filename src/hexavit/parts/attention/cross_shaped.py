"""Attention inside stripes: half of the heads in vertical ones, half in horizontal ones."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hexavit.parts.attention.base import Attention, split_heads
from hexavit.parts.attention.partition import ceil_div, crop_map, cut_windows, join_windows, pad_map
from hexavit.parts.attention.places import Places, every, windows_of
from hexavit.parts.contract import Scope, Size, Tokens
from hexavit.parts.registry import register_part


class Stripes(NamedTuple):
    """The windows of one branch.

    Attributes:
        window: (h, w) of a window.
        counts: number of windows down and across.
        before: rows and columns of padding at the top and at the left.
        after: those at the bottom and at the right.
    """

    window: Size
    counts: Size = (1, 1)
    before: Size = (0, 0)
    after: Size = (0, 0)


@register_part("attention", "cross_shaped")
class CrossShapedAttention(Attention):
    """Cross-shaped window attention (CSWin: Dong et al., CVPR 2022, section 3.2, eq. 4 and 5).

    New in it: the first half of the heads attends in vertical stripes, as high as the map and `split` wide, the second
    half in horizontal ones. One joint linear gives q, k and v; the halves lie side by side before the output linear. A
    position inside the attention has one module for each half.
    A side that `split` does not divide is padded with zeros on both sides, the odd one behind. q, k and v are padded,
    not the tokens: padded keys are 0 and take part in the softmax. Extra tokens, which no published model brings, read
    all tokens; stripes do not read them. `record_attention` gives the maps of all heads over the map with its padding,
    0 outside of a query's stripe: (B, h, H W, H' W').

    Shapes: (B, P + H W, C) to the same. Cost with A = heads x head_dim and H', W' the padded sides: parameters
    4 C A + 3 A + C; multiply-adds 4 H W C A + H^2 W' split A + W^2 H' split A, with `split=none` 2 (H W)^2 A instead of
    the last two, and for extra tokens 4 P C A + 2 P (P + H W) A.
    Same as microsoft/CSWin-Transformer; the padding is that of its segmentation code. Where both sides of the map are
    `split`, its classification code has one branch: both stripes are then the whole map, which is the same.

    Args:
        heads: number of heads, even unless `split` is none.
        split: width of a stripe in tokens; None for one branch over the whole map, as in the last stage.
        head_dim: width d of a head; None for dim / heads.
        qkv_bias: whether q, k and v have a bias.
        attn_drop: dropout rate of the attention maps.
        proj_drop: dropout rate of the output.

    Raises:
        ValueError: a split below 1, an odd number of heads for two branches, or a width that the heads do not divide.
    """

    needs = "raster"
    reads_grid = True
    offers = frozenset({"logits", "values"})

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        split: int | None = 1,
        head_dim: int | None = None,
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(attn_drop, proj_drop)
        if split is not None and split < 1:
            raise ValueError(f"a stripe is at least 1 token wide, not {split}")
        if split is not None and heads % 2:
            raise ValueError(f"half of the heads are in stripes of each direction: heads must be even, not {heads}")
        inner = self._set_heads(dim, heads, head_dim)
        self.split, self.scale = split, self.head_dim**-0.5
        self.qkv = nn.Linear(dim, 3 * inner, bias=qkv_bias)
        self.proj = nn.Linear(inner, dim)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + H W, C) to the same."""
        size, stripes = tokens.size, self.stripes(tokens.size)
        qkv = self.qkv(tokens.grid)  # (B, H, W, 3 A)
        inner = self.heads * self.head_dim // len(stripes)
        halves = qkv.view(*qkv.shape[:3], 3, len(stripes), inner).unbind(4)  # (B, H, W, 3, A / 2) each
        mixed = torch.cat([self._attended(i, half, size) for i, half in enumerate(halves)], dim=2)
        if self.maps is not None and len(stripes) > 1:
            self.maps.append(over_the_map([self.maps.pop(-2), self.maps.pop()], size, stripes))
        out = tokens.with_image(self.output(mixed))
        if tokens.extra is None:
            return out
        return out.replace_extra(self._extra(tokens.extra, qkv.flatten(1, 2)))

    def _attended(self, number: int, qkv: Tensor, size: Size) -> Tensor:
        """One branch: q, k and v (B, H, W, 3, A') to (B, H W, A')."""
        window, counts, before, after = self.stripes(size)[number]
        windows = cut_windows(pad_map(qkv, before, after), counts, window)
        q, k, v = windows.unbind(2)  # (B W, N, A') each, W windows of N tokens
        queries, keys, values = (split_heads(t, qkv.shape[4] // self.head_dim) for t in (q, k, v))
        bias = None
        if (position := _held(self.position, number)) is not None:
            bias = position(window, queries).to(q.dtype)
            bias = bias[None] if bias.ndim == 3 else bias  # the fused kernel takes no three axes
        mixed = self.attend(queries, keys, values, scale=self.scale, bias=bias)
        on_values = _held(self.value_position, number)
        if on_values is not None and on_values.reach == "scope":
            mixed = mixed + on_values(window, v)
        mixed = crop_map(join_windows(mixed, qkv.shape[0], counts, window), size, before)
        if on_values is not None and on_values.reach == "map":
            mixed = mixed + on_values(size, qkv[:, :, :, 2].flatten(1, 2))
        return mixed

    def _extra(self, extra: Tensor, qkv: Tensor) -> Tensor:
        """Extra tokens (B, P, C) read themselves and all image tokens, of which q, k and v are (B, H W, 3 A)."""
        q, k, v = self.qkv(extra).chunk(3, dim=2)
        _, keys, values = qkv.chunk(3, dim=2)
        read = q, torch.cat((k, keys), dim=1), torch.cat((v, values), dim=1)
        mixed = self.attend(*(split_heads(t, self.heads) for t in read), scale=self.scale, record=False)
        return self.output(mixed)

    def stripes(self, size: Size) -> tuple[Stripes, ...]:
        """The windows of each branch, of a map of `size`."""
        if self.split is None:
            return (Stripes(size),)
        (h, w), split = size, self.split
        down, across = ceil_div(h, split), ceil_div(w, split)
        rows, columns = down * split - h, across * split - w
        left, top = columns // 2, rows // 2
        return (
            Stripes((h, split), (1, across), (0, left), (0, columns - left)),
            Stripes((split, w), (down, 1), (top, 0), (rows - top, 0)),
        )

    def scopes(self, size: Size) -> tuple[Scope, ...]:
        """The stripes of each half of the heads, or the whole map."""
        stripes = self.stripes(size)
        heads = self.heads // len(stripes)
        return tuple(Scope(each.window, each.window, heads, each.counts[0] * each.counts[1]) for each in stripes)

    def places(self, size: Size, extra: int) -> tuple[Places, ...]:
        """The stripes of each half of the heads, then extra tokens to all."""
        stripes, found = self.stripes(size), []
        each = self.heads // len(stripes)
        for number, one in enumerate(stripes):
            inside = windows_of(size, extra, one.counts, one.window, before=one.before)
            found.append(Places(inside, inside[:, None], slice(number * each, (number + 1) * each)))
        if extra:
            found.append(Places(every(extra), every(extra + math.prod(size))[None]))
        return tuple(found)

    def macs(self, size: Size, extra: int = 0) -> int:
        """4 H W C A + (H^2 W' + W^2 H') split A, or 2 (H W)^2 A; and 4 P C A + 2 P (P + H W) A."""
        tokens, inner = size[0] * size[1], self.heads * self.head_dim
        pairs = sum(
            scope.windows * (scope.queries[0] * scope.queries[1]) ** 2 * scope.heads for scope in self.scopes(size)
        )
        image = 4 * tokens * self.dim * inner + 2 * pairs * self.head_dim
        return image + extra * inner * (4 * self.dim + 2 * (extra + tokens))


def over_the_map(maps: list[Tensor], size: Size, stripes: tuple[Stripes, ...]) -> Tensor:
    """The maps of the windows of each branch, (B W, h, N, N), as those of all heads over the padded map,
    (B, h, H W, H' W'), 0 where a query and a key share no window."""
    before = max(each.before[0] for each in stripes), max(each.before[1] for each in stripes)
    padded = tuple(n + max(each.before[i] + each.after[i] for each in stripes) for i, n in enumerate(size))
    places = torch.arange(padded[0] * padded[1], device=maps[0].device).view(1, *padded, 1)
    found = []
    for each, (window, counts, start, end) in zip(maps, stripes, strict=True):
        first = [b - s for b, s in zip(before, start, strict=True)]
        last = [b + n + e for b, n, e in zip(before, size, end, strict=True)]
        at = cut_windows(places[:, first[0] : last[0], first[1] : last[1]], counts, window)[:, :, 0]  # (W, N)
        whole = each.new_zeros(each.shape[0] // at.shape[0], each.shape[1], places.numel(), places.numel())
        by_window = each.unflatten(0, (-1, at.shape[0])).transpose(1, 2)  # (B, h, W, N, N)
        whole[:, :, at[:, :, None], at[:, None]] = by_window
        found.append(whole)
    queries = crop_map(places, size, before)[0, :, 0]
    return torch.cat(found, dim=1)[:, :, queries]


def _held(position: nn.Module | None, number: int) -> nn.Module | None:
    """The position part of a branch."""
    return position[number] if isinstance(position, nn.ModuleList) else position
