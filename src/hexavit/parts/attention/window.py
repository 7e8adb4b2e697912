"""Attention inside windows, shifted or not."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from hexavit.errors import nearest
from hexavit.parts.attention.base import Attention, split_heads, split_joint
from hexavit.parts.attention.partition import ceil_div, crop_map, cut_windows, join_windows, pad_map
from hexavit.parts.attention.places import Places, every, windows_of
from hexavit.parts.contract import Scope, Size, Tokens
from hexavit.parts.layers import is_tracing, known, without_autocast
from hexavit.parts.registry import register_part
from hexavit.parts.reshaping import reshaped

Padding = Literal["end", "centre"]
MASKED = -100.0
"""What is added to the logit of a pair that the shift alone has brought together, as the authors have it."""


@register_part("attention", "window")
class WindowAttention(Attention):
    """Multi-head self-attention inside windows, optionally shifted (Swin: Liu et al., ICCV 2021, section 3.2) or spread
    apart (Shuffle Transformer: Huang et al., 2021, section 3.2).

    New in it: the cost grows linearly with the number of tokens. `Pattern([window, shifted])` alternates windows and
    shifted windows. A map that M does not divide is padded with zeros at the bottom and at the right, after the norm;
    the padding takes part in the attention, as in the authors' detection code. If min(H, W) <= M, the window is
    min(H, W) and is not shifted. Windows of a height and a width are reduced by each side alone, and are not shifted
    along a side that covers the map.

    A call at another size computes what the model of that size would. An exported graph with dynamic sizes keeps the
    windows and shifts of the size it was built and traced at. It is correct for maps that have one window where the
    traced map has one, and several where it has several: build above 32 x M pixels for all larger sizes.

    With `padding=centre` the zeros are on all sides, half of them (rounded down) at the top and at the left (HRFormer:
    Yuan et al., NeurIPS 2021).

    Extra tokens, which no published model has, attend to all tokens; windows do not attend to them. A position on the
    values gets those of each window or, with `reach=map`, of the whole map.

    Shapes: (B, P + H W, C) to the same. Cost with H' W' the padded map, windows of N tokens and A = heads x head_dim:
    parameters 4 C A + 3 A + C, with `cosine` heads more, without `key_bias` A fewer; multiply-adds
    4 H' W' C A + 2 H' W' N A and for extra tokens 4 P C A + 2 P (P + H W) A.
    Same as microsoft/Swin-Transformer's, timm's and transformers'; torchvision's keeps its window on small maps.

    Args:
        heads: number of heads.
        window: side M of a window in tokens, or a list of a height and a width; none for a side of the map.
        spread: whether the tokens of a window of h x w are H / h rows and W / w columns apart, and not neighbours.
        shifted: whether the map is rolled by M // 2 before it is cut; pairs that were not neighbours get -100 on their
            logit.
        shrink: whether the window is reduced to a smaller map. False keeps M and pads (Twins: Chu et al., NeurIPS 2021,
            which has no shift and no bias).
        padding: where zeros are added: at the `end`, or around the `centre`.
        cosine: whether q and k are divided by their norms and scaled by exp(min(t, ln 100)), with t learned for each
            head and initialised to ln 10 (Swin V2: Liu et al., CVPR 2022, eq. 2).
        head_dim: width d of a head; None for dim / heads.
        qkv_bias: whether q, k and v have a bias.
        key_bias: whether k has a bias too.
        attn_drop: dropout rate of the attention maps.
        proj_drop: dropout rate of the output.

    Raises:
        ValueError: a window below 1 or of more than two sides, windows that are shifted and spread, or a width that the
            heads do not divide.
    """

    needs = "raster"
    reads_grid = True
    offers = frozenset({"logits", "values"})
    no_decay = ("logit_scale",)
    traced = "windows and shifts are those of the size built for, and a map of one window stays one"

    def __init__(
        self,
        dim: int,
        size: Size,
        *,
        heads: int,
        window: int | tuple[int | None, ...] = 7,
        shifted: bool = False,
        spread: bool = False,
        shrink: bool = True,
        padding: Padding = "end",
        cosine: bool = False,
        head_dim: int | None = None,
        qkv_bias: bool = True,
        key_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(attn_drop, proj_drop)
        self.window = window
        self.sides: tuple[int | None, ...] = (window,) * 2 if isinstance(window, int) else tuple(window)
        if any(side is not None and side < 1 for side in self.sides):
            raise ValueError(f"a window is at least 1 token wide, not {window}")
        if len(self.sides) != 2:
            raise ValueError(f"a window is a side, or a list of a height and a width, not {window}")
        if shifted and spread:
            raise ValueError("a window is shifted or spread, not both: spread windows have no neighbours to shift")
        inner = self._set_heads(dim, heads, head_dim)
        if padding not in get_args(Padding):
            raise ValueError(f"there is no padding {padding!r}: {nearest(padding, get_args(Padding))}")
        self.shifted, self.spread, self.shrink, self.padding = shifted, spread, shrink, padding
        self.built = self._window(size)
        self.scale = 1.0 if cosine else self.head_dim**-0.5
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10.0))) if cosine else None
        self.qkv = nn.Linear(dim, 3 * inner, bias=qkv_bias and key_bias)
        apart = qkv_bias and not key_bias
        self.q_bias = nn.Parameter(torch.zeros(inner)) if apart else None
        self.v_bias = nn.Parameter(torch.zeros(inner)) if apart else None
        self.proj = nn.Linear(inner, dim)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + H W, C) to the same."""
        grid, (h, w) = tokens.grid, tokens.size
        window, shift = self._window(tokens.size)
        batch, counts = grid.shape[0], self._counts(tokens.size, window)
        rows, columns = counts[0] * window[0], counts[1] * window[1]

        before = ((rows - h) // 2, (columns - w) // 2) if self.padding == "centre" else (0, 0)

        def cut(grid: Tensor) -> Tensor:
            grid = pad_map(grid, before, (rows - h - before[0], columns - w - before[1]))
            grid = grid.roll((-shift[0], -shift[1]), (1, 2)) if any(shift) else grid
            return cut_windows(grid, counts, window, self.spread)

        def join(windows: Tensor) -> Tensor:
            grid = join_windows(windows, batch, counts, window, self.spread)
            grid = grid.roll(shift, (1, 2)) if any(shift) else grid
            return crop_map(grid, tokens.size, before)

        qkv = self._qkv(cut(grid))  # (B W, N, 3 A), W windows of N tokens
        queries, keys, values = self._heads(*split_joint(qkv, 3, self.heads))
        bias = None if self.position is None else self.position(window, queries).to(qkv.dtype)  # (h, N, N)
        of_queries = bias is not None and bias.ndim == 4  # (B W, h, N, N)
        if any(shift):
            mask = shift_mask(counts, window, shift, qkv)[:, None]  # (W, 1, N, N)
            if bias is not None and not of_queries:
                mask, bias = mask + bias, None
            mask = mask.repeat(batch, 1, 1, 1)
            bias = mask if bias is None else mask + bias
        elif bias is not None and not of_queries:
            bias = bias[None]  # the fused kernel takes no three axes
        mixed = self.attend(queries, keys, values, scale=self.scale, bias=bias)
        if self.value_position is not None:
            v = qkv[..., -mixed.shape[2] :]
            if self.value_position.reach == "map":
                mixed = mixed + cut(self.value_position(tokens.size, join(v)).unflatten(1, tokens.size))
            else:
                mixed = mixed + self.value_position(window, v)
        out = tokens.with_image(self.dropped(join(self.proj(mixed))))
        if tokens.extra is None:
            return out
        return out.replace_extra(self._extra(tokens.extra, join(qkv[..., mixed.shape[2] :])))

    def _qkv(self, x: Tensor) -> Tensor:
        """(B', N, C) to q, k and v side by side, (B', N, 3 A)."""
        qkv: Tensor = self.qkv(x)
        if self.q_bias is not None and self.v_bias is not None:
            qkv = qkv + torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias)).to(qkv.dtype)
        return qkv

    def _heads(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v (B', h, N, d), with `cosine` q and k by their lengths."""
        if self.logit_scale is not None:
            scale = self.logit_scale.clamp(max=math.log(100.0)).exp()
            q, k = _divided(q, _length(q) / scale), _divided(k, _length(k))
        return q, k, v

    def _extra(self, extra: Tensor, kv: Tensor) -> Tensor:
        """Extra tokens (B, P, C) read themselves and all image tokens, whose keys and values are (B, H W, 2 A)."""
        q, own = self._qkv(extra).split((kv.shape[2] // 2, kv.shape[2]), dim=2)
        k, v = split_joint(torch.cat((own, kv), dim=1), 2, self.heads)
        q, k, v = self._heads(split_heads(q, self.heads), k, v)
        return self.output(self.attend(q, k, v, scale=self.scale, record=False))

    # Windows

    def _window(self, size: Size) -> tuple[Size, Size]:
        """The window (h, w) and the shift by axis for a map; those built for where its size is traced, not known."""
        if is_tracing():
            size = int(size[0]), int(size[1])  # tensors that have values; a script keeps what follows of them
        if not known(*size):
            (h, w), shift = self.built
            return (size[0] if self.sides[0] is None else h, size[1] if self.sides[1] is None else w), shift
        if isinstance(self.window, int):
            side, several = self.window, min(size) > self.window
            if self.shrink and not several:
                # A number also where a compiler has symbols: `min(size)` would make each later size its expression.
                side = next(side for side in range(1, self.window + 1) if side >= min(size))
            return (side, side), (side // 2 if self.shifted and several else 0,) * 2
        h, w = (
            n if side is None else min(side, n) if self.shrink else side
            for side, n in zip(self.sides, size, strict=True)
        )
        return (h, w), (h // 2 if self.shifted and h < size[0] else 0, w // 2 if self.shifted and w < size[1] else 0)

    def _counts(self, size: Size, window: Size) -> Size:
        """How many windows cover a map, down and across."""
        down, across = (
            1 if side is None else ceil_div(n, tokens) for side, n, tokens in zip(self.sides, size, window, strict=True)
        )
        return down, across

    def scope(self, size: Size) -> Size:
        """The window."""
        return self._window(size)[0]

    def scopes(self, size: Size) -> tuple[Scope, ...]:
        """The windows."""
        window = self.scope(size)
        return (Scope(window, window, self.heads, math.prod(self._counts(size, window))),)

    def places(self, size: Size, extra: int) -> tuple[Places, ...]:
        """Windows of image tokens, then extra tokens to all."""
        window, shift = self._window(size)
        counts = self._counts(size, window)
        sides = (counts[0] * window[0], counts[1] * window[1])
        centred = self.padding == "centre"
        before = ((sides[0] - size[0]) // 2, (sides[1] - size[1]) // 2) if centred else (0, 0)
        inside = windows_of(size, extra, counts, window, before=before, shift=shift, spread=self.spread)
        to_all = Places(every(extra), every(extra + math.prod(size))[None])
        return (Places(inside, inside[:, None]), to_all)[: 1 + (extra > 0)]

    def set_size(self, size: Size) -> None:
        """The windows of another map, and the position's bias for them."""
        self.built = self._window(size)
        super().set_size(size)

    def macs(self, size: Size, extra: int = 0) -> int:
        """4 H' W' C A + 2 H' W' N A + 4 P C A + 2 P (P + H W) A."""
        window, inner = self.scope(size), self.heads * self.head_dim
        padded = math.prod(self._counts(size, window)) * math.prod(window)
        windows = padded * inner * (4 * self.dim + 2 * math.prod(window))
        return windows + extra * inner * (4 * self.dim + 2 * (extra + math.prod(size)))


def shift_mask(counts: Size, window: Size, shift: Size, like: Tensor) -> Tensor:
    """0 for pairs of tokens that were neighbours before the roll, else -100: (W, N, N) for `counts` windows down and
    across."""
    region = [
        (torch.arange(n, device=like.device) >= n - side).int() + (torch.arange(n, device=like.device) >= n - by).int()
        for n, side, by in ((count * side, side, by) for count, side, by in zip(counts, window, shift, strict=True))
    ]
    rows, columns = (each.view(count, side) for each, count, side in zip(region, counts, window, strict=True))
    windows = reshaped(3 * rows[:, None, :, None] + columns[:, None], (counts[0] * counts[1],), window[0] * window[1])
    mask: Tensor = (windows[:, :, None] != windows[:, None]).to(like.dtype) * MASKED
    return mask


def _length(x: Tensor) -> Tensor:
    """max(|x|, 1e-12), (..., 1), of vectors (..., d), in float32 at least: the square of 1e-12 is 0 in half precision,
    and that of 256 is infinite."""
    with without_autocast(x):
        wide = x.float() if x.dtype.itemsize < 4 else x
        squared = (wide * wide).sum(dim=-1, keepdim=True)
        return squared.clamp_min(1e-24).sqrt()


def _divided(x: Tensor, by: Tensor) -> Tensor:
    """The quotient, in the precision of `x`. OpenVINO 2026.4 takes factors of keys as the scale of the attention."""
    return (x / by).to(x.dtype)
