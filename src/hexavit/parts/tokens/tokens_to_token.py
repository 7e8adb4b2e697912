"""T2T-ViT's tokens: overlapping unfolds with a small transformer layer after the first two."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.parts.attention.base import Attention
from hexavit.parts.attention.performer import performer_attention, performer_map, performer_rows, random_features
from hexavit.parts.attention.places import Weights
from hexavit.parts.contract import PartModule, Size, Tokens
from hexavit.parts.feedforward.conv_mlp import ConvMLP
from hexavit.parts.feedforward.mlp import MLP
from hexavit.parts.layers import dropout, dropped
from hexavit.parts.registry import register_part

Kind = Literal["performer", "transformer"]
_WINDOWS = ((7, 4, 2), (3, 2, 1), (3, 2, 1))  # kernel, stride, padding


class CarriedNorm(nn.LayerNorm):
    """The weight and bias of a norm that is not applied: LocalViT's code creates it and its checkpoints hold it."""

    constants = ("weight", "bias")

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Any to the same."""
        return x


class T2TLayer(Attention):
    """One head of attention that changes the width, with its values as the skip, then a feedforward of ratio 1.

    y = v + W_o attend(q, k, v), since the input has another width; out = y + mlp(norm(y)). `transformer`: the scale is
    (input width)^-0.5, q, k, v have no bias. `performer`: no scale; `kqv` has a bias and that order; e / 2 random
    features; dropout 0.1 behind W_o. `local` uses LocalViT's inverted residual as the MLP; the norm before it is then
    not applied, as in the authors' code. `drop` is the dropout rate behind the feedforward.

    (B, H W, D) to (B, H W, e).
    """

    constants = ("w",)

    def __init__(
        self, in_dim: int, dim: int, norm_eps: float, kind: Kind, local: bool = False, drop: float = 0.0
    ) -> None:
        super().__init__(proj_drop=0.1 if kind == "performer" else 0.0)
        self.kind, self.in_dim, self.dim = kind, in_dim, dim
        self.norm1 = nn.LayerNorm(in_dim, eps=norm_eps)
        self.qkv = nn.Linear(in_dim, 3 * dim, bias=kind == "performer")
        self.proj = nn.Linear(dim, dim)
        self.norm2 = CarriedNorm(dim) if local else nn.LayerNorm(dim, eps=norm_eps)
        self.feedforward = ConvMLP(dim, ratio=1.0, act="hardswish", bias=False) if local else MLP(dim, ratio=1.0)
        self.drop = dropout(drop)
        if kind == "performer":
            self.w = nn.Parameter(random_features(dim // 2, dim), requires_grad=False)

    def forward(self, tokens: Tokens, beside: Tensor | None = None) -> Tokens:
        """(B, H W, D) to (B, H W, e); what is `beside` (B, H W, e) is added before the feedforward."""
        # Contiguous, or a traced batch of one would be another graph.
        first, second, v = (t.contiguous() for t in self.qkv(self.norm1(tokens.image)).chunk(3, dim=2))
        if self.kind == "performer":  # the order is k, q, v
            mixed = performer_attention(second, first, v, self.w)
            if self.reader is not None:
                q, k, values = (t.unsqueeze(1) for t in (second, first, v))
                rows = partial(performer_rows, q, k, self.w)
                self.reader(Weights((*q.shape[:3], k.shape[2]), rows, values, mixed.unsqueeze(1)))
            if self.maps is not None:
                self.maps.append(performer_map(second, first, self.w).unsqueeze(1).detach())
        else:
            q, k, values = (t.unsqueeze(1) for t in (first, second, v))
            mixed = self.attend(q, k, values, scale=self.in_dim**-0.5)
        y = v + self.output(mixed)
        y = y if beside is None else y + beside
        y = y + dropped(self.feedforward(Tokens(self.norm2(y), tokens.size)).image, self.drop)
        return Tokens(y, tokens.size)

    def macs(self, size: Size, extra: int = 0) -> int:
        """3 N D e + N e^2, the feedforward's, and 2 N^2 e (`transformer`) or 4 N m e + N m (`performer`, m = e / 2)."""
        n, e = size[0] * size[1], self.dim
        mixing = n * (e // 2) * (4 * e + 1) if self.kind == "performer" else 2 * n * n * e
        return 3 * n * self.in_dim * e + n * e * e + mixing + self.feedforward.macs(size)


@register_part("tokens", "tokens_to_token")
class TokensToToken(PartModule):
    """Tokens-to-token (T2T-ViT: Yuan et al., ICCV 2021, section 3.1): unfold 7/4/2, a layer, unfold 3/2/1, a layer,
    unfold 3/2/1, one linear to the width.

    New in it: overlapping unfolds join neighbouring tokens, with a narrow transformer layer (width `token_dim`) after
    each of the first two; `kind` is `performer` (Choromanski et al., ICLR 2021) or `transformer`. `local`
    gives these layers LocalViT's convolutional feedforward (Li et al., 2021).

    Shapes: (B, H, W, C_in) to (B, H / 16, W / 16, C). Cost: see `T2TLayer` for each layer; the last linear
    9 `token_dim` C at each token.
    Same as yitu-opensource/T2T-ViT, which takes square images only; here any H x W. Its random features `w` are a
    frozen parameter of the checkpoint and are loaded.
    """

    needs = "raster"
    reads_grid = True
    keeps_extra = False

    @classmethod
    def inside(cls, chosen: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """The attention and the feedforward of its layers."""
        attention = "performer" if chosen["kind"] == "performer" else "global"
        return ("attention", attention), ("feedforward", "conv_mlp" if chosen["local"] else "mlp")

    def __init__(
        self,
        in_dim: int,
        dim: int,
        norm_eps: float,
        *,
        kind: Kind = "performer",
        token_dim: int = 64,
        local: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            T2TLayer(width, token_dim, norm_eps, kind, local) for width in (49 * in_dim, 9 * token_dim)
        )
        self.proj = nn.Linear(9 * token_dim, dim)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, H, W, C_in) to (B, H / 16, W / 16, C)."""
        image, size = tokens.map, tokens.size
        for (kernel, stride, padding), layer in zip(_WINDOWS, (*self.layers, None), strict=True):
            size = _unfolded(size, (kernel, stride, padding))
            x = (
                F.unfold(image, kernel, padding=padding, stride=stride).transpose(1, 2).contiguous()
            )  # (B, N, C k^2), channel-major
            if layer is None:
                break
            image = layer(Tokens(x, size)).map.contiguous()
        return Tokens(self.proj(x), size, carry=tokens.carry)

    def out_size(self, size: Size) -> Size:
        """Three unfolds."""
        for window in _WINDOWS:
            size = _unfolded(size, window)
        return size

    def macs(self, size: Size, extra: int = 0) -> int:
        """The two layers' and the last linear's."""
        total = 0
        for window, layer in zip(_WINDOWS, (*self.layers, None), strict=True):
            size = _unfolded(size, window)
            total += layer.macs(size) if isinstance(layer, T2TLayer) else size[0] * size[1] * self.proj.weight.numel()
        return total


def _unfolded(size: Size, window: tuple[int, int, int]) -> Size:
    kernel, stride, padding = window
    return (size[0] + 2 * padding - kernel) // stride + 1, (size[1] + 2 * padding - kernel) // stride + 1
