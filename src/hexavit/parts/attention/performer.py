"""Performer: softmax attention estimated by positive random features, in time linear in the number of tokens."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.parts.attention.base import Attention, split_joint
from hexavit.parts.attention.places import Weights
from hexavit.parts.contract import Size, Tokens, rows
from hexavit.parts.layers import without_autocast
from hexavit.parts.registry import register_part


def random_features(features: int, dim: int) -> Tensor:
    """w (m, d): random normal rows, made orthogonal, times sqrt(m); for m > d in blocks of d."""
    blocks = [torch.linalg.qr(torch.randn(dim, dim))[0].T for _ in range(-(-features // dim))]
    w: Tensor = torch.cat(blocks)[:features].contiguous() * features**0.5
    return w


def performer_attention(q: Tensor, k: Tensor, v: Tensor, w: Tensor, eps: float = 1e-8) -> Tensor:
    """phi(q) (phi(k)^T v) / (phi(q) sum phi(k) + eps), with phi(u) = exp(w u - |u|^2 / 2) / sqrt(m).

    Computed in float32 at least, under autocast too: phi is outside the range of half precision.

    Args:
        q: (..., N, d).
        k: (..., N, d).
        v: (..., N, d').
        w: (m, d).
        eps: added to the denominator.

    Returns:
        (..., N, d').
    """
    with without_autocast(q):
        q, k = positive_features(q, w), positive_features(k, w)  # (..., N, m)
        total = k.sum(dim=-2).unsqueeze(-1)  # (..., m, 1)
        summed = v.to(k.dtype).transpose(-2, -1) @ k  # (..., d', m)
        out: Tensor = (q @ summed.transpose(-2, -1)) / (q @ total + eps)
        return out.to(v.dtype)


def positive_features(u: Tensor, w: Tensor) -> Tensor:
    """phi(u): (..., N, d) to (..., N, m), in float32 at least."""
    with without_autocast(u):
        u = u.float() if u.dtype.itemsize < 4 else u
        half_norm = u.square().sum(dim=-1, keepdim=True) / 2
        features: Tensor = (F.linear(u, w.to(u.dtype)) - half_norm).exp() / w.shape[0] ** 0.5
        return features


def performer_map(q: Tensor, k: Tensor, w: Tensor) -> Tensor:
    """The attention map (..., N, N) that `performer_attention` stands for, without its eps."""
    with without_autocast(q):
        product = positive_features(q, w) @ positive_features(k, w).transpose(-2, -1)
        return product / product.sum(dim=-1, keepdim=True)


def performer_rows(q: Tensor, k: Tensor, w: Tensor, images: slice, queries: slice) -> Tensor:
    """`performer_map` of some images and queries: (B, h, N, d) and (B, h, M, d) to (b, h, n, M)."""
    return performer_map(q[images, :, queries], k[images], w)


@register_part("attention", "performer")
class PerformerAttention(Attention):
    """Performer attention (Choromanski et al., ICLR 2021, eq. 5, positive random features).

    New in it: exp(q k^T) is estimated by phi(q) phi(k)^T, so keys meet values first and no M x M map exists.
    q and k are scaled by d^-0.25 each. `w` is drawn once and saved with the weights.

    Shapes: (B, P + N, C) to the same. Cost with M = P + N, A = heads x head_dim and m features: parameters
    4 C A + 3 A + C (and m d constants); multiply-adds 4 M C A + 4 M m A + M m heads.
    Same formula as T2T-ViT's token performer, which has one head and no scale; differs from the paper in drawing w once
    and in rows of norm sqrt(m).

    Args:
        heads: number of heads.
        head_dim: width d of a head; None for dim / heads.
        features: number of features m, as a fraction of the head's width.
        qkv_bias: whether q, k and v have a bias.
        proj_drop: dropout rate of the output.
    """

    fused = "never"
    fused_reason = "keys meet values before queries; a map is computed only where one is recorded"
    constants = ("w",)

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        head_dim: int | None = None,
        features: float = 0.5,
        qkv_bias: bool = True,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(0.0, proj_drop)
        inner = self._set_heads(dim, heads, head_dim)
        if features <= 0:
            raise ValueError(f"features is a share of the head's width, more than 0, not {features}")
        self.features = max(1, round(features * self.head_dim))
        self.qkv = nn.Linear(dim, 3 * inner, bias=qkv_bias)
        self.proj = nn.Linear(inner, dim)
        self.w = nn.Parameter(random_features(self.features, self.head_dim), requires_grad=False)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + N, C) to the same."""
        return tokens.join().each(self._mix)

    def _mix(self, x: Tensor) -> Tensor:
        q, k, v = split_joint(self.qkv(x), 3, self.heads)  # (B, h, M, d) each
        scale = self.head_dim**-0.25
        q, k = q * scale, k * scale
        if self.maps is not None:
            self.maps.append(performer_map(q, k, self.w).detach())
        out = performer_attention(q, k, v, self.w)
        if self.reader is not None:
            self.reader(Weights((*q.shape[:3], k.shape[2]), partial(performer_rows, q, k, self.w), v, out))
        return self.output(out.transpose(1, 2).flatten(2))

    def macs(self, size: Size, extra: int = 0) -> int:
        """4 M C A + 4 M m A + M m heads."""
        m, inner = rows(size, extra), self.heads * self.head_dim
        return 4 * m * self.dim * inner + 4 * m * self.features * inner + m * self.features * self.heads
