"""TNT's inner transformer: the words of each patch attend to one another, and are added to the patch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from hexavit.errors import ArchitectureError
from hexavit.parts.attention.places import Places, windows_of
from hexavit.parts.attention.self_attention import GlobalAttention
from hexavit.parts.contract import PartModule, Size, Tokens
from hexavit.parts.feedforward.mlp import MLP
from hexavit.parts.registry import register_part
from hexavit.parts.residual.norms import PreNorm


class WordAttention(GlobalAttention):
    """Attention among the words of a patch, whose patches are the batch: (B N, M, c) to the same.

    Args:
        side: sqrt(M); on the grid of all words a patch is a window of side x side.
        **options: of global attention.
    """

    def __init__(self, dim: int, *, side: int, **options: Any) -> None:
        super().__init__(dim, **options)
        self.side = side

    def places(self, size: Size, extra: int) -> tuple[Places, ...]:
        """The patches as windows, for a grid of words."""
        counts = size[0] // self.side, size[1] // self.side
        patches = windows_of(size, extra, counts, (self.side, self.side))
        return (Places(patches, patches[:, None]),)


@register_part("feedforward", "inner_transformer")
class InnerTransformer(PartModule):
    """A transformer block over the words of each patch, whose words are then added to the patch
    (TNT: Han et al., "Transformer in Transformer", NeurIPS 2021, eq. 5 to 8).

    New in it: the words y (M of width c, from the tokens part `words`) pass y + attention(norm(y)) and y + mlp(norm(y))
    in their own patch. The branch is norm(W norm(all words of the patch)) for image tokens and 0 for extra tokens. It
    reads no tokens, so the residual around it has `norm=none`; TNT's has `stochastic_depth=false` as well. Both
    residuals inside have the block's rate, and drop a branch patch by patch.

    Args:
        dim: C.
        carried: shapes of what is carried, which has the words'.
        norm_eps: epsilon of the norms.
        drop_path: rate of stochastic depth.
        heads: of the attention in a patch.
        ratio: of its feedforward.
        qkv_bias: whether its q, k and v have a bias.
        each: norm each word and not all of a patch together; W then has a bias and no norm behind it (first release).
        attn_drop: dropout of its attention's maps.
        drop: dropout behind its attention and in its feedforward.

    Shapes: (B, P + N, C) to the same; words (B, N, M, c) to the same. Cost with ratio 4: parameters 12 c^2 + 10 c,
    M c C, 2 M c + 2 C of norms (`each`: 2 c, and C of the bias); multiply-adds N (12 M c^2 + 2 M^2 c + M c C).
    Same as the inner half of huawei-noah/Efficient-AI-Backbones' TNT block, where qk and v are two linears.

    Raises:
        ValueError: heads that do not divide c, or words of another grid.
        ArchitectureError: on a call, words of another number of patches than there are tokens.
    """

    takes = ("words",)
    gives = ("words",)
    last = "proj"

    @classmethod
    def inside(cls, chosen: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Its attention, its feedforward and their residuals."""
        return ("attention", "global"), ("feedforward", "mlp"), ("residual", "pre_norm")

    def __init__(
        self,
        dim: int,
        carried: Mapping[str, tuple[int, ...]],
        norm_eps: float,
        drop_path: float,
        *,
        heads: int,
        ratio: float = 4.0,
        qkv_bias: bool = False,
        each: bool = False,
        attn_drop: float = 0.0,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        if "words" not in carried:
            raise ValueError("there are no words for this grid: use tokens=words in this stage")
        self.count, self.word_dim = carried["words"]
        self.each = each
        inner = self.word_dim
        self.attention_residual = PreNorm(inner, 1, norm_eps, drop_path)
        self.side = math.isqrt(self.count)
        self.attention = WordAttention(
            inner, side=self.side, heads=heads, qkv_bias=qkv_bias, attn_drop=attn_drop, proj_drop=drop
        )
        self.feedforward_residual = PreNorm(inner, 1, norm_eps, drop_path)
        self.feedforward = MLP(inner, ratio=ratio, drop=drop)
        self.norm1 = nn.LayerNorm(inner if each else self.count * inner, eps=norm_eps)
        self.proj = nn.Linear(self.count * inner, dim, bias=each)
        self.norm2 = nn.Identity() if each else nn.LayerNorm(dim, eps=norm_eps)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + N, C) to the same, and the words."""
        words = tokens.carry["words"]
        batch, patches = words.shape[:2]
        if not torch.compiler.is_compiling() and patches != tokens.image.shape[1]:
            raise ArchitectureError(
                f"the words are those of {patches} patches, and there are {tokens.image.shape[1]} tokens: make words "
                "where the grid changes, with tokens=words"
            )
        inside = Tokens(words.flatten(0, 1), (self.count, 1), layout="set")
        inside = self.attention_residual(inside, self.attention)
        inside = self.feedforward_residual(inside, self.feedforward)
        words = inside.image.unflatten(0, (batch, patches))
        image = self.norm1(words).flatten(2) if self.each else self.norm1(words.flatten(2))
        image = self.norm2(self.proj(image))
        if tokens.joined:
            image = F.pad(image, (0, 0, tokens.prefix, 0))
        extra = None if tokens.extra_body is None else torch.zeros_like(tokens.extra_body)
        return Tokens(image, tokens.size, extra, tokens.prefix, tokens.layout, {**tokens.carry, "words": words})

    def word_grid(self, size: Size) -> Size:
        """The grid of all words, for one of patches."""
        return size[0] * self.side, size[1] * self.side

    def macs(self, size: Size, extra: int = 0) -> int:
        """N (12 M c^2 + 2 M^2 c + M c C) with ratio 4."""
        place = (self.count, 1)
        one = self.attention.macs(place) + self.feedforward.macs(place) + self.proj.weight.numel()
        return size[0] * size[1] * one
