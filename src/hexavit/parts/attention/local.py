"""The local operators as one: local self-attention, depth-wise convolution, dynamic filters, and ELSA."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.errors import nearest
from hexavit.parts.attention.base import Attention, Scale, attention_scale, split_heads
from hexavit.parts.attention.filters import (
    GAIN,
    by_offset,
    check_kernel,
    filter_norm,
    filtered,
    neighbours,
    with_image_mean,
)
from hexavit.parts.attention.partition import ceil_div, crop_map, cut_windows, join_windows, pad_map
from hexavit.parts.attention.places import Places, Weights, every, neighbours_of, windows_of
from hexavit.parts.contract import Scope, Size, Tokens
from hexavit.parts.positions.relative import offset_index
from hexavit.parts.registry import register_part

Norm = Literal["identity", "filter_norm", "softmax"]
Application = Literal["sliding", "window"]
TERMS = ("qk", "qr", "rk", "r")
HADAMARD = "hadamard"


@register_part("attention", "local")
class LocalAttention(Attention):
    """Local operators in one formula, and ELSA (Zhou et al., 2021).

    x'_i = sum over j of G(Norm_j(s q_i k_j + s q_i r^k_{j-i} + s r^q_{j-i} k_j + r^b_{j-i})) v_j, with tables r^k, r^q,
    r^b of each head, over the neighbours j of i (a sliding window) or over the window that contains i.

    New in ELSA: the logits of a head at all offsets come from the product q * k at each place, through a grouped
    convolution, GELU and a linear (Hadamard attention, `hadamard`). The ghost head G gives each channel c its own
    filter from that of its head: m_c^lam F + gamma a_c, with learned m and a of k x k.

    | point | options |
    |---|---|
    | local self-attention (Swin) | `terms=qk+r, application=window` |
    | local self-attention over neighbours | `terms=qk` |
    | depth-wise convolution | `terms=r, norm=identity, heads=none` |
    | dynamic filter | `terms=qr, norm=identity` or `norm=filter_norm` |
    | ELSA | `terms=hadamard, scale=1.0, gamma=1.0` |

    Outside of the map q, k and v are 0; places there take part in the norm, in both applications. Windows that do not
    divide the map reach over its bottom and its right. Extra tokens, which no published model has, get the mean of what
    image tokens get. `record_attention` gives Norm_j(...): (B, h, H W, k^2) over neighbours, (B windows, h, k^2, k^2)
    in windows.

    Args:
        heads: number of heads; each has one filter at a place. None for one head a channel.
        kernel: side k of the neighbourhood, odd, or of the windows.
        terms: the terms of the logits, joined by +: `qk` (content), `qr`, `rk` and `r` (relative); or `hadamard`.
        norm: `softmax`; `filter_norm` for mean 0 and standard deviation sqrt(2) / k over j; `identity`.
        application: `sliding` for the neighbours of each place, `window` for windows that do not overlap.
        shifted: whether windows begin k - k // 2 tokens outside of the map, so that they join halves of the others. A
            sliding window has no shift: it is not read there, so that one pattern of blocks serves both.
        dilation: distance of the neighbours.
        group_width: channels of a group of `hadamard`'s convolution. Its width D, that of q and k, is C // 3 * 2,
            rounded up to a multiple of it.
        lam: power of the ghost head's factors, a whole number; 0 for none.
        gamma: factor of the ghost head's summands; 0 for none.
        scale: the factor s on products of q and k: `head_dim` for d^-0.5, `dim` for C^-0.5, or a number.
        qkv_bias: whether q, k and v have a bias.
        attn_drop: dropout rate of the normed filters.
        proj_drop: dropout rate of the output.

    Shapes: (B, P + H W, C) to the same. Cost with O offsets (k^2 or (2 k - 1)^2), n of q and k used, M places j of the
    N = H W (or padded) places i: parameters (n + 1) (C + 1) C + (C + 1) C, O C for each of `qr` and `rk`, O heads for
    `r`, k^2 C for each of m and a; multiply-adds (n + 2) H W C^2 + N M C (1 + number of `qk`, `qr`, `rk`). `hadamard`
    has (2 D + C) (C + 1) + (C + 1) C + (k^2 g + 1) D + (D + 1) k^2 heads parameters and
    N (2 C D + 2 C^2 + k^2 g D + k^2 heads D + k^2 C) multiply-adds, with g = `group_width`.
    Same as damo-cv/ELSA with `hadamard`, whose published models have lam = 0 and gamma = 1. Differs: the formula's
    other points are from the paper, which published no code of them; `window` with `relative_bias` is the faster form
    of the first, and masks its shift.

    Raises:
        ValueError: unknown terms, norm or application; an even sliding kernel; a width that the heads do not divide;
            `filter_norm` of a single place; `hadamard`, a ghost head or a dilation in windows; a negative lam.
    """

    needs = "raster"
    reads_grid = True
    extra_mean = True
    fused = "never"
    fused_reason = "each place has keys of its own, logits that are not products alone, or another norm"

    def __init__(
        self,
        dim: int,
        *,
        heads: int | None,
        kernel: int = 7,
        terms: str = "qk+r",
        norm: Norm = "softmax",
        application: Application = "sliding",
        shifted: bool = False,
        dilation: int = 1,
        group_width: int = 8,
        lam: int = 0,
        gamma: float = 0.0,
        scale: Scale | float = "head_dim",
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(attn_drop, proj_drop)
        self._set_heads(dim, dim if heads is None else heads, None)
        self.terms = _terms(terms)
        for name, value, known in (("norm", norm, Norm), ("application", application, Application)):
            if value not in get_args(known):
                raise ValueError(f"there is no {name} {value!r}: {nearest(value, get_args(known))}")
        self.kernel, self.dilation, self.normalise, self.sliding = kernel, dilation, norm, application == "sliding"
        self._check(lam, gamma)
        if self.sliding:
            check_kernel(kernel, dilation)
        self.shift = kernel // 2 if shifted else 0
        self.maps_are = "probabilities" if norm == "softmax" else "mixed"
        self.lam, self.gamma = lam, gamma
        self.scale = attention_scale(scale, dim, self.head_dim)

        hadamard = HADAMARD in self.terms
        if hadamard and group_width < 1:
            raise ValueError(f"group_width is at least 1, not {group_width}")
        width = ceil_div(dim // 3 * 2, group_width) * group_width if hadamard else dim
        self.widths = [width] * (hadamard or self._reads("qk", "qr")) + [width] * (hadamard or self._reads("qk", "rk"))
        self.qkv = nn.Conv2d(dim, sum(self.widths) + dim, 1, bias=qkv_bias)
        self.r_k, self.r_q = (self._table(term, self.head_dim) for term in ("qr", "rk"))
        self.r_b = self._table("r")
        self.mix: nn.Module | None = None
        self.logits: nn.Module | None = None
        if hadamard:
            padding, groups = dilation * (kernel // 2), width // group_width
            self.mix = nn.Conv2d(width, width, kernel, padding=padding, dilation=dilation, groups=groups)
            self.act = nn.GELU()
            self.logits = nn.Conv2d(width, kernel**2 * self.heads, 1)
        self.ghost = self._ghosts(dim)
        self.proj = nn.Linear(dim, dim)

    def _check(self, lam: int, gamma: float) -> None:
        if self.kernel < 1:
            raise ValueError(f"a kernel is at least 1 token wide, not {self.kernel}")
        if self.normalise == "filter_norm" and self.kernel == 1:
            raise ValueError("norm='filter_norm' needs a kernel above 1: one value has no deviation")
        if lam < 0:
            raise ValueError(f"lam is at least 0, not {lam}")
        if not self.sliding and (HADAMARD in self.terms or lam or gamma or self.dilation != 1):
            raise ValueError(
                "terms='hadamard', lam, gamma and dilation are of the neighbours of a place: use application='sliding'"
            )

    def _reads(self, *terms: str) -> bool:
        return any(term in self.terms for term in terms)

    def _table(self, term: str, *rest: int) -> nn.Parameter | None:
        """(h, O, ...), one row for each offset, row by row; None without the term."""
        if term not in self.terms:
            return None
        offsets = self.kernel**2 if self.sliding else (2 * self.kernel - 1) ** 2
        table = nn.Parameter(torch.empty(self.heads, offsets, *rest))
        nn.init.trunc_normal_(table, std=0.02)
        return table

    def _ghosts(self, dim: int) -> nn.Parameter | None:
        """The ghost head as the authors hold it: (1, C, k, k), or (2, 1, C, k, k) for both factors and summands."""
        shape = (1, dim, self.kernel, self.kernel)
        held = [torch.randn(shape)] if self.lam else []
        if self.gamma:
            held.append(nn.init.trunc_normal_(torch.empty(shape), std=0.02))
        return nn.Parameter(torch.stack(held) if len(held) > 1 else held[0]) if held else None

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + H W, C) to the same."""
        grid = self.qkv(tokens.map).permute(0, 2, 3, 1)
        *qk, v = grid.split([*self.widths, self.dim], dim=3)  # (B, H, W, ...) each
        mixed = self._over_neighbours(qk, v) if self.sliding else self._in_windows(qk, v)
        return with_image_mean(tokens, self.output(mixed))

    # Neighbours

    def _over_neighbours(self, qk: list[Tensor], v: Tensor) -> Tensor:
        """q and k, as far as they are used, and v (B, H, W, C), to (B, H W, C)."""
        logits = self._hadamard(*qk) if self.mix is not None else self._sliding_logits(qk)
        filters = self._normed(logits)  # (B, H, W, h, k^2), or (h, k^2) of r alone
        self.show_filters(filters if filters.ndim == 5 else filters[None, None, None], v.shape[:3])
        weights = by_offset(F.dropout(filters, self.attn_drop, self.training))
        heads = v.unflatten(3, (self.heads, -1))
        return filtered(heads, self._of_channels(weights), self.kernel, dilation=self.dilation).flatten(3).flatten(1, 2)

    def _sliding_logits(self, qk: list[Tensor]) -> Tensor:
        split = [part.unflatten(3, (self.heads, -1)) for part in qk]  # (B, H, W, h, d)
        logits: list[Tensor] = []
        if self._reads("qk", "rk"):
            for offset, seen in enumerate(neighbours(split[-1], self.kernel, dilation=self.dilation)):
                found = []
                if "qk" in self.terms:
                    found.append(torch.einsum("...d,...d->...", split[0], seen))
                if self.r_q is not None:
                    found.append(torch.einsum("...hd,hd->...h", seen, self.r_q[:, offset]))
                logits.append(sum(found[1:], found[0]))
        total = [torch.stack(logits, dim=-1)] if logits else []
        if self.r_k is not None:
            total.append(torch.einsum("...hd,hod->...ho", split[0], self.r_k))
        return self._with_bias(total)

    def _hadamard(self, q: Tensor, k: Tensor) -> Tensor:
        """Products (B, H, W, D) to logits (B, H, W, h, k^2)."""
        assert self.mix is not None and self.logits is not None
        product = q * k if self.scale == 1 else q * k * self.scale
        mixed = self.logits(self.act(self.mix(product.permute(0, 3, 1, 2))))
        logits: Tensor = mixed.permute(0, 2, 3, 1).unflatten(3, (self.heads, -1))
        return logits

    def _of_channels(self, weights: tuple[Tensor, ...]) -> Iterator[Tensor]:
        """The ghost head: filters of heads (..., h), by offset, to those of channels (..., h, d or 1)."""
        factors, summands = self._ghost_by_offset()
        for o, weight in enumerate(weights):
            each = weight[..., None]
            if factors is not None:
                each = each * factors[o]
            yield each if summands is None else each + summands[o]

    def _ghost_by_offset(self) -> tuple[Tensor | None, Tensor | None]:
        """m^lam and gamma a, (k^2, h, d) each; None where the ghost head has none."""
        if self.ghost is None:
            return None, None
        held = [each.flatten(2)[0].t().unflatten(1, (self.heads, -1)) for each in self._ghost_parts()]
        factors = held[0] ** self.lam if self.lam else None
        return factors, held[-1] * self.gamma if self.gamma else None

    def _ghost_parts(self) -> list[Tensor]:
        assert self.ghost is not None
        return list(self.ghost) if self.lam and self.gamma else [self.ghost]

    # Windows

    def _in_windows(self, qk: list[Tensor], v: Tensor) -> Tensor:
        """q and k, as far as they are used, and v (B, H, W, C), to (B, H W, C)."""
        size = v.shape[1], v.shape[2]
        before, counts = self._windows(size)
        window = (self.kernel, self.kernel)
        after = tuple(count * self.kernel - before - n for count, n in zip(counts, size, strict=True))

        def cut(grid: Tensor) -> Tensor:  # (B, H, W, C) to (B', h, N, d)
            padded = pad_map(grid, (before, before), (after[0], after[1]))
            return split_heads(cut_windows(padded, counts, window), self.heads)

        filters = self._normed(self._window_logits([cut(part) for part in qk]))  # (B', h, N, N), or (h, N, N)
        values = cut(v)
        whole = filters.detach().expand(values.shape[0], -1, -1, -1)
        if self.maps is not None:
            self.maps.append(whole)
        if self.reader is not None:
            self.reader(Weights.of(whole))
        filters = F.dropout(filters, self.attn_drop, self.training).to(values.dtype)
        mixed = (filters @ values).transpose(1, 2).flatten(2)
        return crop_map(join_windows(mixed, v.shape[0], counts, window), size, (before, before))

    def _window_logits(self, qk: list[Tensor]) -> Tensor:
        """q and k (B', h, N, d) to logits (B', h, N, N)."""
        device = next((t.device for t in (self.r_k, self.r_q, self.r_b) if t is not None), None)
        index = offset_index((self.kernel, self.kernel), device).t()  # the row of the offset key minus query
        total = []
        if "qk" in self.terms:
            total.append(qk[0] @ qk[1].transpose(2, 3))
        if self.r_k is not None:
            total.append(torch.einsum("bhid,hijd->bhij", qk[0], self.r_k[:, index]))
        if self.r_q is not None:
            total.append(torch.einsum("bhjd,hijd->bhij", qk[-1], self.r_q[:, index]))
        return self._with_bias(total, index)

    def _windows(self, size: Size) -> tuple[int, Size]:
        """How far windows begin outside of the map, and how many cover it, down and across."""
        before = self.kernel - self.shift if self.shift else 0
        return before, (ceil_div(size[0] + before, self.kernel), ceil_div(size[1] + before, self.kernel))

    # Both

    def _with_bias(self, products: list[Tensor], index: Tensor | None = None) -> Tensor:
        """s times the sum of the products, and r^b."""
        total = sum(products[1:], products[0]) * self.scale if products else None
        if self.r_b is None:
            assert total is not None  # there is a term
            return total
        bias: Tensor = self.r_b if index is None else self.r_b[:, index]
        return bias if total is None else total + bias

    def _normed(self, logits: Tensor) -> Tensor:
        if self.normalise == "softmax":
            return logits.softmax(dim=-1)
        return filter_norm(logits) * (GAIN / self.kernel) if self.normalise == "filter_norm" else logits

    def scope(self, size: Size) -> Size:
        """The neighbourhood, or the window."""
        return self.kernel, self.kernel

    def scopes(self, size: Size) -> tuple[Scope, ...]:
        """The windows, or one neighbourhood for each place."""
        if self.sliding:
            return (Scope((1, 1), (self.kernel, self.kernel), self.heads, size[0] * size[1]),)
        return (Scope(self.scope(size), self.scope(size), self.heads, math.prod(self._windows(size)[1])),)

    def places(self, size: Size, extra: int) -> tuple[Places, ...]:
        """The neighbours of each place, or windows."""
        if self.sliding:
            keys = neighbours_of(size, extra, self.kernel, dilation=self.dilation)
            return (Places(every(size[0] * size[1]) + extra, keys),)
        before, counts = self._windows(size)
        inside = windows_of(size, extra, counts, (self.kernel, self.kernel), before=(before, before))
        return (Places(inside, inside[:, None]),)

    def macs(self, size: Size, extra: int = 0) -> int:
        """(n + 2) H W C^2 + N M C (1 + terms), or those of `hadamard`."""
        (scope,) = self.scopes(size)
        pairs = scope.windows * math.prod(scope.queries) * math.prod(scope.keys)
        weights = self.dim * (sum(self.widths) + 2 * self.dim)
        if isinstance(self.mix, nn.Conv2d) and isinstance(self.logits, nn.Conv2d):
            weights += self.mix.weight.numel() + self.logits.weight.numel()
        return size[0] * size[1] * weights + pairs * self.dim * (1 + sum(self._reads(t) for t in TERMS[:3]))


def _terms(text: str) -> tuple[str, ...]:
    """The terms of a sum.

    Raises:
        ValueError: an unknown or repeated term, or `hadamard` beside another.
    """
    terms = tuple(part.strip() for part in text.split("+"))
    for term in terms:
        if term not in (*TERMS, HADAMARD):
            raise ValueError(f"there is no term {term!r} in terms={text}: {nearest(term, (*TERMS, HADAMARD))}")
    if len(set(terms)) < len(terms) or (HADAMARD in terms and len(terms) > 1):
        raise ValueError(f"terms are different ones of {', '.join(TERMS)}, joined by +, or hadamard alone, not {text}")
    return terms
