"""Attention inside windows, shifted or not."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.parts.attention.base import Attention, split_heads
from hexavit.parts.contract import Size, Tokens
from hexavit.parts.layers import is_tracing, known, without_autocast
from hexavit.parts.registry import register_part

MASKED = -100.0
"""What is added to the logit of a pair that the shift alone has brought together, as the authors have it."""


@register_part("attention", "window")
class WindowAttention(Attention):
    """Multi-head self-attention inside windows of M x M tokens, optionally shifted (Swin: Liu et al., ICCV 2021,
    section 3.2).

    New in it: the cost grows linearly with the number of tokens. `Pattern([window, shifted])` alternates windows and
    shifted windows. A map that M does not divide is padded with zeros at the bottom and at the right, after the norm;
    the padding takes part in the attention, as in the authors' detection code. If min(H, W) <= M, the window is
    min(H, W) and is not shifted.

    A call at another size computes what the model of that size would. An exported graph with dynamic sizes keeps the
    windows and shifts of the size it was built and traced at. It is correct for maps that have one window where the
    traced map has one, and several where it has several: build above 32 x M pixels for all larger sizes.

    Extra tokens, which no published model has, attend to all tokens; windows do not attend to them.

    Shapes: (B, P + H W, C) to the same. Cost with H' W' the padded map and A = heads x head_dim: parameters
    4 C A + 3 A + C, with `cosine` heads more, without `key_bias` A fewer; multiply-adds 4 H' W' C A + 2 H' W' M^2 A
    and for extra tokens 4 P C A + 2 P (P + H W) A.
    Same as microsoft/Swin-Transformer's, timm's and transformers'; torchvision's keeps its window on small maps.

    Args:
        heads: number of heads.
        window: side M of a window in tokens.
        shifted: whether the map is rolled by M // 2 before it is cut; pairs that were not neighbours get -100 on their
            logit.
        shrink: whether the window is reduced to a smaller map. False keeps M and pads (Twins: Chu et al., NeurIPS 2021,
            which has no shift and no bias).
        cosine: whether q and k are divided by their norms and scaled by exp(min(t, ln 100)), with t learned for each
            head and initialised to ln 10 (Swin V2: Liu et al., CVPR 2022, eq. 2).
        head_dim: width d of a head; None for dim / heads.
        qkv_bias: whether q, k and v have a bias.
        key_bias: whether k has a bias too.
        attn_drop: dropout rate of the attention maps.
        proj_drop: dropout rate of the output.

    Raises:
        ValueError: a window below 1, or a width that the heads do not divide.
    """

    needs = "raster"
    reads_grid = True
    offers = frozenset({"logits"})
    no_decay = ("logit_scale",)
    traced = "windows and shifts are those of the size built for, and a map of one window stays one"

    def __init__(
        self,
        dim: int,
        size: Size,
        *,
        heads: int,
        window: int = 7,
        shifted: bool = False,
        shrink: bool = True,
        cosine: bool = False,
        head_dim: int | None = None,
        qkv_bias: bool = True,
        key_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(attn_drop, proj_drop)
        if window < 1:
            raise ValueError(f"a window is at least 1 token wide, not {window}")
        inner = self._set_heads(dim, heads, head_dim)
        self.window, self.shifted, self.shrink = window, shifted, shrink
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
        side, shift = self._window(tokens.size)
        # All sizes are given: with symbolic sizes each -1 is a quotient that the compiler has to simplify.
        batch, (down, across) = grid.shape[0], _windows(tokens.size, side)
        rows, columns = down * side, across * side

        def cut(grid: Tensor) -> Tensor:
            grid = _pad(grid, rows - h, columns - w)
            grid = grid.roll((-shift, -shift), (1, 2)) if shift else grid
            windows = grid.view(batch, down, side, across, side, grid.shape[3]).transpose(2, 3)
            return windows.reshape(batch * down * across, side * side, grid.shape[3])

        def join(windows: Tensor) -> Tensor:
            grid = windows.view(batch, down, across, side, side, windows.shape[2]).transpose(2, 3)
            grid = grid.reshape(batch, rows, columns, windows.shape[2])
            grid = grid.roll((shift, shift), (1, 2)) if shift else grid
            return _cropped(grid, tokens.size)

        q, k, v = self._qkv(cut(grid))  # (B W, N, A) each, W windows of N tokens
        bias = None if self.position is None else self.position((side, side), None).to(q.dtype)[None]  # (1, h, N, N)
        if shift:
            mask = shift_mask((rows, columns), side, shift, q)[:, None]  # (W, 1, N, N)
            bias = mask if bias is None else mask + bias
            bias = bias.expand(batch, *bias.shape).flatten(0, 1)
        mixed = self.attend(*self._heads(q, k, v), scale=self.scale, bias=bias)
        out = tokens.with_image(self.proj_drop(join(self.proj(mixed))))
        if tokens.extra is None:
            return out
        return out.replace_extra(self._extra(tokens.extra, join(torch.cat((k, v), dim=2))))

    def _qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B', N, C) to q, k and v (B', N, A)."""
        qkv = self.qkv(x)
        if self.q_bias is not None and self.v_bias is not None:
            qkv = qkv + torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias)).to(qkv.dtype)
        q, k, v = qkv.chunk(3, dim=2)
        return q, k, v

    def _heads(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B', N, A) each to (B', h, N, d), with `cosine` q and k by their lengths."""
        q, k, v = (split_heads(t, self.heads) for t in (q, k, v))
        if self.logit_scale is not None:
            scale = self.logit_scale.clamp(max=math.log(100.0)).exp()
            q, k = _times(q, scale * _over_length(q)), _times(k, _over_length(k))
        return q, k, v

    def _extra(self, extra: Tensor, kv: Tensor) -> Tensor:
        """Extra tokens (B, P, C) read themselves and all image tokens, whose keys and values are (B, H W, 2 A)."""
        q, k, v = self._qkv(extra)
        keys, values = kv.chunk(2, dim=2)
        q, k, v = self._heads(q, torch.cat((k, keys), dim=1), torch.cat((v, values), dim=1))
        out: Tensor = self.proj_drop(self.proj(self.attend(q, k, v, scale=self.scale, record=False)))
        return out

    # Windows

    def _window(self, size: Size) -> tuple[int, int]:
        """The window's side and the shift for a map; those built for where its size is traced, not known."""
        if is_tracing():
            size = int(size[0]), int(size[1])  # tensors that have values; a script keeps what follows of them
        if not known(*size):
            return self.built
        if min(size) > self.window:
            return self.window, self.window // 2 if self.shifted else 0
        if not self.shrink:
            return self.window, 0
        # A number also where a compiler has symbols: `min(size)` would make each later size an expression of it.
        return next(side for side in range(1, self.window + 1) if side >= min(size)), 0

    def scope(self, size: Size) -> Size:
        """The window."""
        return (self._window(size)[0],) * 2

    def set_size(self, size: Size) -> None:
        """The windows of another map, and the position's bias for them."""
        self.built = self._window(size)
        super().set_size(size)

    def macs(self, size: Size, extra: int = 0) -> int:
        """4 H' W' C A + 2 H' W' M^2 A + 4 P C A + 2 P (P + H W) A."""
        side, inner = self._window(size)[0], self.heads * self.head_dim
        padded = math.prod(_windows(size, side)) * side * side
        windows = padded * inner * (4 * self.dim + 2 * side * side)
        return windows + extra * inner * (4 * self.dim + 2 * (extra + math.prod(size)))


def shift_mask(size: Size, side: int, shift: int, like: Tensor) -> Tensor:
    """0 for pairs of tokens that were neighbours before the roll, else -100: (W, N, N) for a map of whole windows."""
    (rows, columns), device = size, like.device
    region = [
        (torch.arange(n, device=device) >= n - side).int() + (torch.arange(n, device=device) >= n - shift).int()
        for n in size
    ]
    down, across = rows // side, columns // side
    grid = (3 * region[0][:, None] + region[1]).view(down, side, across, side)
    windows = grid.transpose(1, 2).reshape(down * across, side * side)
    mask: Tensor = (windows[:, :, None] != windows[:, None]).to(like.dtype) * MASKED
    return mask


def _over_length(x: Tensor) -> Tensor:
    """1 / max(|x|, 1e-12), (..., 1), of vectors (..., d), in float32 at least: the square of 1e-12 is 0 in half
    precision, and that of 256 is infinite."""
    with without_autocast(x):
        wide = x.float() if x.dtype.itemsize < 4 else x
        squared: Tensor = torch.linalg.vecdot(wide, wide)  # twice as fast as the norm
        return squared.clamp_min(1e-24).rsqrt().unsqueeze(-1)


def _times(x: Tensor, factor: Tensor) -> Tensor:
    """The product, in the precision of `x`."""
    return (x * factor).to(x.dtype)


def _windows(size: Size, side: int) -> Size:
    """How many windows cover a map, down and across."""
    # Not -(-n // side): ONNX rounds a negative quotient towards 0.
    return (size[0] + side - 1) // side, (size[1] + side - 1) // side


def _cropped(grid: Tensor, size: Size) -> Tensor:
    """The upper left of (B, H', W', C) as tokens (B, H W, C)."""
    if known(*size):
        return grid[:, : size[0], : size[1]].flatten(1, 2)
    # Whether there is anything to cut off differs from size to size, and a slice would ask it of a traced one.
    rows, columns = (torch.arange(n, device=grid.device) for n in size)
    return grid.flatten(1, 2).index_select(1, (rows[:, None] * grid.shape[2] + columns).flatten())


def _pad(grid: Tensor, rows: int, columns: int) -> Tensor:
    """Zeros at the bottom and at the right of (B, H, W, C)."""
    return grid if known(rows, columns) and not (rows or columns) else F.pad(grid, (0, 0, 0, columns, 0, rows))
