"""Evolving attention: the logits of one block are mixed into the next block's, and convolved."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.parts.attention.base import Attention, split_heads, split_joint
from hexavit.parts.attention.partition import ceil_div
from hexavit.parts.attention.places import KeyGrid, kernel_shares
from hexavit.parts.attention.reductions import as_tokens
from hexavit.parts.attention.self_attention import GlobalAttention, position_bias
from hexavit.parts.contract import Size, Tokens, rows
from hexavit.parts.layers import activation, known
from hexavit.parts.registry import register_part

MAP = "attention_map"
"""Carried: the logits (B, h, M, M) of the evolving attention before, as they entered its softmax."""


class MapPath(nn.Module):
    """L' = c act(conv(A)) + (1 - c) A with A = (1 - p) L + p F: the logits L of a block and F, those handed on.

    The convolution's channels are the heads, and its plane is queries x keys.
    """

    def __init__(self, heads: int, kernel: int, previous_share: float, conv_share: float, act: str) -> None:
        super().__init__()
        self.previous_share, self.conv_share = previous_share, conv_share
        self.conv = nn.Conv2d(heads, heads, kernel, padding=kernel // 2)
        self.act = activation(act)

    def forward(self, logits: Tensor, before: Tensor) -> Tensor:
        """(B, h, M, M) twice to the same."""
        mixed = (1 - self.previous_share) * logits + self.previous_share * before
        if not self.conv_share:
            return mixed
        evolved: Tensor = self.conv_share * self.act(self.conv(mixed))
        return evolved if self.conv_share == 1 else evolved + (1 - self.conv_share) * mixed

    def macs(self, count: int) -> int:
        """k^2 h^2 M^2."""
        return self.conv.weight.numel() * count**2 if self.conv_share else 0


def map_path(
    heads: int,
    count: int,
    carried: Mapping[str, tuple[int, ...]],
    *,
    kernel: int,
    previous_share: float,
    conv_share: float,
    act: str,
) -> MapPath | None:
    """The map path of a block, if a map of its heads and of its number of tokens is handed on to it.

    Raises:
        ValueError: an even kernel, or a share outside of [0, 1].
    """
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel must be odd, not {kernel}: an even kernel shifts the map")
    if not (0 <= previous_share <= 1 and 0 <= conv_share <= 1):
        raise ValueError(f"a share is between 0 and 1, not {previous_share} and {conv_share}")
    path = MapPath(heads, kernel, previous_share, conv_share, act)
    return path if carried.get(MAP) == (heads, count) else None


def evolved(path: nn.Module | None, logits: Tensor, tokens: Tokens) -> Tensor:
    """The logits (B, h, M, M) of a block behind its map path; unchanged where no map of their shape is handed on."""
    before = tokens.carry.get(MAP)
    if path is None or before is None or (known(*logits.shape, *before.shape) and before.shape != logits.shape):
        return logits
    out: Tensor = path(logits, before)
    return out


@register_part("attention", "evolving")
class EvolvingAttention(GlobalAttention):
    """Evolving attention (Wang et al., ICML 2021, section 3.2): self-attention whose logits come from two blocks.

    New in it: A = (1 - p) s q k^T + p F with F the logits that the evolving attention before handed on, then
    L' = c act(conv(A)) + (1 - c) A, a convolution over (query, key) with the heads as channels. The attention is
    softmax(L'), and L' is handed on. The first block, and the first of a stage whose grid or extra tokens differ, has
    no F and no convolution. Extra tokens take part like any.

    Shapes: (B, P + N, C) to the same. Cost with M = P + N, A = heads x head_dim and kernel k: parameters
    4 C A + 3 A + C and behind another block k^2 h^2 + h; multiply-adds 4 M C A + 2 M^2 A and k^2 h^2 M^2.
    Same map path as pkuyym/EvolvingAttention, which has no plain ViT: `evolving_conv` is its image form. The paper's
    letters are the other way round: its alpha is the share of the map before, its beta that of the convolution.

    Args:
        heads: number of heads.
        head_dim: width d of a head; None for dim / heads.
        qkv_bias: whether q, k and v have a bias.
        previous_share: p.
        conv_share: c; with 0 the maps are mixed alone.
        kernel: side k of the convolution, odd.
        act: activation behind it (`leaky_relu` in the authors' model of time series).
        attn_drop: dropout rate of the attention maps.
        proj_drop: dropout rate of the output.

    Raises:
        ValueError: an even kernel, or a share outside of [0, 1].
    """

    gives = (MAP,)
    fused = "never"
    fused_reason = "the logits are convolved, and handed on to the next block"

    def __init__(
        self,
        dim: int,
        size: Size,
        extra: int,
        carried: Mapping[str, tuple[int, ...]],
        *,
        heads: int,
        head_dim: int | None = None,
        qkv_bias: bool = True,
        previous_share: float = 0.5,
        conv_share: float = 1.0,
        kernel: int = 3,
        act: str = "relu",
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(
            dim, heads=heads, head_dim=head_dim, qkv_bias=qkv_bias, attn_drop=attn_drop, proj_drop=proj_drop
        )
        shares = {"previous_share": previous_share, "conv_share": conv_share}
        self.path = map_path(heads, rows(size, extra), carried, kernel=kernel, act=act, **shares)
        self.given_shapes = {MAP: (heads, rows(size, extra))}

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + N, C) to the same."""
        x, size, prefix = tokens.sequence, tokens.size, tokens.prefix
        q, k, v = split_joint(self.qkv(x), 3, self.heads)  # (B, h, M, d) each
        logits = (q * self.scale) @ k.transpose(-2, -1)
        bias = position_bias(self.position, q, size, prefix)
        logits = evolved(self.path, logits if bias is None else logits + bias, tokens)
        out = self._projected(self.weighed(logits, v).transpose(1, 2).flatten(2), v, size, prefix)
        carry = {**tokens.carry, MAP: logits}
        return Tokens(out, size, prefix=prefix, layout=tokens.layout, carry=carry)

    def macs(self, size: Size, extra: int = 0) -> int:
        """4 M C A + 2 M^2 A + k^2 h^2 M^2."""
        path = 0 if self.path is None else self.path.macs(rows(size, extra))
        return super().macs(size, extra) + path


@register_part("attention", "evolving_conv")
class EvolvingConv(Attention):
    """Attention-augmented convolution (Bello et al., ICCV 2019) with evolving maps (Wang et al., ICML 2021, section 4).

    New in it: some channels of a 3 x 3 convolution come from global attention, and the logits of that attention evolve
    from block to block as in `evolving`. Channels of the convolution first. The attention reads the tokens behind a
    3 x 3 average pooling of stride 2 where `stride=2`, and behind another one with `half`; its output is then enlarged
    bilinearly without half-pixel shift. The authors' positions are `position=decomposed_relative`. An extra token is
    convolved alone, as a map of 1 x 1, and takes part in the attention unpooled.

    Shapes: (B, P + H W, C) to (B, P + H' W', C), H' = ceil(H / stride). Cost with D = h floor(C `key_share` / h) and
    V = h floor(C `value_share` / h) (each at least h), N' = H' W' and M = P + the attended tokens: parameters
    9 C (C - V) + (C + 1) (2 D + V) + V^2 + V and behind another block k^2 h^2 + h; multiply-adds
    9 C (C - V) (N' + P) + M C (2 D + V) + M^2 (D + V) + M V^2 and k^2 h^2 M^2.
    Same as EAResnet50 of pkuyym/EvolvingAttention, where keys come before queries in the weights.

    Args:
        heads: number of heads h.
        key_share: width of all queries (and of all keys) as a share of C.
        value_share: width of all values as a share of C; with 1 there is no convolution.
        stride: 1 or 2. The output grid shrinks by it, and the residual pools its skip.
        half: whether the attention has half of the output's sides (the authors' stage 2).
        evolve: whether logits are handed on; False for Bello et al.'s layer.
        previous_share: share p of the logits handed on.
        conv_share: share c of the convolved logits.
        kernel: side k of the convolution of the logits, odd.
        act: activation behind it.
        attn_drop: dropout rate of the attention maps.
        proj_drop: dropout rate of the output.

    Raises:
        ValueError: another stride, an even kernel, or a share outside of [0, 1].
    """

    needs = "raster"
    reads_grid = True
    offers = frozenset({"logits"})
    gives = (MAP,)
    fused = "never"
    fused_reason = "the logits are convolved, and handed on to the next block"
    traced = "with `stride=2` or `half` whether a side of the grid is even"

    def __init__(
        self,
        dim: int,
        size: Size,
        extra: int,
        carried: Mapping[str, tuple[int, ...]],
        *,
        heads: int,
        key_share: float = 0.25,
        value_share: float = 0.125,
        stride: int = 1,
        half: bool = False,
        evolve: bool = True,
        previous_share: float = 0.5,
        conv_share: float = 1.0,
        kernel: int = 3,
        act: str = "relu",
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(attn_drop, proj_drop)
        if stride not in (1, 2):
            raise ValueError(f"stride is 1 or 2, not {stride}")
        if not (0 < key_share <= 1 and 0 < value_share <= 1):
            raise ValueError(f"a share is above 0 and at most 1, not {key_share} and {value_share}")
        self.stride, self.halved = stride, half
        keys, values = (heads * max(1, int(share * dim) // heads) for share in (key_share, value_share))
        if keys > dim or values > dim:
            raise ValueError(f"a width of {dim} has no channel for each of {heads} heads: change heads")
        self._set_heads(dim, heads, keys // heads)
        self.values, self.scale = values, self.head_dim**-0.5
        convolved = dim - values
        self.conv = nn.Conv2d(dim, convolved, 3, stride=stride, padding=1, bias=False) if convolved else None
        self.qkv = nn.Linear(dim, 2 * keys + values)
        self.proj = nn.Linear(values, values)
        count = rows(self.scope(size), extra)
        shares = {"previous_share": previous_share, "conv_share": conv_share}
        path = map_path(heads, count, carried, kernel=kernel, act=act, **shares)
        self.path = path if evolve else None
        self.given_shapes = {MAP: (heads, count)}

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + H W, C) to (B, P + H' W', C)."""
        image, extra, prefix = tokens.map, tokens.extra, tokens.prefix
        read = image
        for _ in range((self.stride == 2) + self.halved):
            read = F.avg_pool2d(read, 3, 2, _padding(read), ceil_mode=True, count_include_pad=False)
        grid = (read.shape[2], read.shape[3])
        x = as_tokens(read) if extra is None else torch.cat((extra, as_tokens(read)), dim=1)  # (B, M, C)
        keys = self.heads * self.head_dim
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x).split([keys, keys, self.values], dim=2))
        q = q * self.scale
        bias = position_bias(self.position, q, grid, prefix)
        logits = q @ k.transpose(-2, -1)
        logits = evolved(self.path, logits if bias is None else logits + bias, tokens)
        mixed = self.output(self.weighed(logits, v).transpose(1, 2).flatten(2))  # (B, M, V)
        attended = mixed[:, prefix:].unflatten(1, grid)
        size = self.out_size(tokens.size)
        attended = (enlarged(attended, size) if self.halved else attended).flatten(1, 2)
        out = tokens.with_image(self._beside(image, attended), size).with_carry(**{MAP: logits})
        if extra is None:
            return out
        alone = extra.flatten(0, 1)[:, :, None, None]  # (B P, C, 1, 1)
        return out.replace_extra(self._beside(alone, mixed[:, :prefix].flatten(0, 1)[:, None]).view_as(extra))

    def _beside(self, image: Tensor, attended: Tensor) -> Tensor:
        """The convolution of (B, C, H, W) and attended values (B, H' W', V) side by side: (B, H' W', C)."""
        return attended if self.conv is None else torch.cat((as_tokens(self.conv(image)), attended), dim=2)

    def out_size(self, size: Size) -> Size:
        """ceil(H / stride)."""
        return ceil_div(size[0], self.stride), ceil_div(size[1], self.stride)

    def query_grid(self, size: Size) -> Size:
        """The grid of the attention."""
        return self.scope(size)

    def key_grids(self, size: Size) -> tuple[KeyGrid, ...]:
        """The cells that the pooling reads."""
        times = (self.stride == 2) + self.halved

        def shares(n: int) -> Tensor:
            found = torch.eye(n)
            for _ in range(times):
                side = found.shape[0]
                found = kernel_shares(3, 2, side % 2, lambda n: ceil_div(n, 2))(side) @ found
            return found

        return (KeyGrid.pooled(size, shares) if times else KeyGrid(size),)

    def scope(self, size: Size) -> Size:
        """The grid of the attention."""
        h, w = self.out_size(size)
        return (ceil_div(h, 2), ceil_div(w, 2)) if self.halved else (h, w)

    def macs(self, size: Size, extra: int = 0) -> int:
        """9 C (C - V) (N' + P) + M C (2 D + V) + M^2 (D + V) + M V^2 + k^2 h^2 M^2."""
        m, keys, values, c = rows(self.scope(size), extra), self.heads * self.head_dim, self.values, self.dim
        total = 9 * c * (c - values) * rows(self.out_size(size), extra)
        total += m * c * (2 * keys + values) + m * m * (keys + values) + m * values**2
        return total + (0 if self.path is None else self.path.macs(m))


def _padding(image: Tensor) -> Size:
    """Padding with which windows of 3 in steps of 2 lie as TensorFlow's SAME puts them: 1 on odd sides, where both ends
    are padded; on even ones only the end is, by `ceil_mode`."""
    return image.shape[2] % 2, image.shape[3] % 2


def enlarged(grid: Tensor, size: Size) -> Tensor:
    """A map (B, h, w, C) resized to (B, H, W, C) as TensorFlow 1 does: source = index h / H, clamped at the end."""
    for axis, n in enumerate(size, start=1):
        held = grid.shape[axis]
        source = torch.arange(n, device=grid.device, dtype=torch.float32) * (held / n)
        low = source.long()
        high = (low + 1).clamp(max=held - 1)
        share = (source - low).to(grid.dtype).view(-1, *[1] * (3 - axis))
        grid = torch.lerp(grid.index_select(axis, low), grid.index_select(axis, high), share)
    return grid
