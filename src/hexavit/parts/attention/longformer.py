"""Longformer: sliding windows, dilated or not, and global tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hexavit.parts.attention.base import split_heads, split_joint
from hexavit.parts.attention.folding import Chunks, numbers, pairs
from hexavit.parts.attention.places import Places, every
from hexavit.parts.attention.sparse import Reach, ReachingAttention
from hexavit.parts.contract import Size, Tokens, rows
from hexavit.parts.registry import register_part


@register_part("attention", "longformer")
class LongformerAttention(ReachingAttention):
    """Sliding-window attention with global tokens (Longformer: Beltagy et al., 2020, section 3.1).

    New in it: a query reads the keys |i - j| <= dilation window / 2 with (i - j) mod dilation = 0, and all global
    tokens, in one softmax. A global token reads all tokens, by queries, keys and values of projections of its own; the
    others read it by the ordinary ones. Extra tokens are global. Tokens are numbered row by row; with `two_d` the
    window is one of rows and columns around the token, as in Vision Longformer (Zhang et al., ICCV 2021).

    Shapes: (B, P + N, C) to the same. Cost with A = heads x head_dim, c = window / 2 and g global tokens (extra ones
    counted): parameters 4 C A + 3 A + C, and 3 C A + 3 A with global tokens; multiply-adds 4 M C A + 2 N' 3 c A (9 c^2
    with `two_d`, N' being N with the padding) and for global tokens
    2 N' g A + (g + 2 M) C A + 2 g M A, with M = P + N.
    Same sets of keys as allenai/longformer, whose sequences are padded to a multiple of `window`.

    Args:
        heads: number of heads.
        window: number of keys around a query, even (512 in the published models of text); a side of it with `two_d`.
        dilations: distance of two keys of a window; heads take these in turn, as far as there are.
        two_d: whether windows are those of the map, not of the sequence.
        global_tokens: numbers of image tokens, row by row, that are global too.
        global_projection: whether global tokens have projections of their own.
        head_dim: width d of a head; None for dim / heads.
        qkv_bias: whether q, k and v have a bias.
        attn_drop: dropout rate of the attention maps.
        proj_drop: dropout rate of the output.

    Raises:
        ValueError: an odd window, a dilation below 1, or a global token that is not in the map.
    """

    def __init__(
        self,
        dim: int,
        size: Size,
        extra: int,
        *,
        heads: int,
        window: int = 8,
        dilations: tuple[int, ...] = (1,),
        two_d: bool = False,
        global_tokens: tuple[int, ...] = (),
        global_projection: bool = True,
        head_dim: int | None = None,
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(attn_drop, proj_drop)
        if window < 2 or window % 2:
            raise ValueError(f"window is even and at least 2, not {window}: as many keys before a query as behind it")
        if not dilations or min(dilations) < 1:
            raise ValueError(f"dilations are at least 1, one or more, not {dilations}")
        inner = self._set_heads(dim, heads, head_dim)
        self.reach, self.dilations, self.two_d = window // 2, tuple(dilations), two_d
        self.global_tokens = tuple(dict.fromkeys(global_tokens))
        self.set_size(size)
        self.qkv = nn.Linear(dim, 3 * inner, bias=qkv_bias)
        alone = global_projection and bool(extra + len(self.global_tokens))
        self.global_q = nn.Linear(dim, inner, bias=qkv_bias) if alone else None
        self.global_kv = nn.Linear(dim, 2 * inner, bias=qkv_bias) if alone else None
        self.proj = nn.Linear(inner, dim)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + N, C) to the same."""
        x, prefix = tokens.sequence, tokens.prefix
        qkv = self.qkv(x).unflatten(2, (3, self.heads, self.head_dim))  # (B, P + N, 3, h, d)
        at = [*range(prefix), *(prefix + i for i in self.global_tokens)]
        common = qkv[:, at, 1:] if at else None
        mixed = self.mixed(qkv[:, prefix:], tokens.size, common)
        if at:
            of_global = self._global(x, x[:, at], qkv, qkv[:, at, 0])
            if self.global_tokens:
                places = torch.tensor(self.global_tokens, device=x.device)
                mixed = mixed.index_copy(1, places, of_global[:, prefix:].to(mixed.dtype))
            mixed = torch.cat((of_global[:, :prefix], mixed), dim=1)
        out = self.output(mixed)
        return Tokens(out, tokens.size, prefix=prefix, layout=tokens.layout, carry=tokens.carry)

    def _global(self, x: Tensor, read: Tensor, qkv: Tensor, q: Tensor) -> Tensor:
        """What global tokens (B, g, C) read of all tokens (B, P + N, C): (B, g, A)."""
        queries, (k, v) = q.transpose(1, 2), qkv[:, :, 1:].transpose(1, 3).unbind(2)
        if self.global_q is not None and self.global_kv is not None:
            queries = split_heads(self.global_q(read), self.heads)
            k, v = split_joint(self.global_kv(x), 2, self.heads)
        return self.attend(queries, k, v, scale=self.head_dim**-0.5, record=False)

    def places(self, size: Size, extra: int) -> tuple[Places, ...]:
        """The groups of each dilation, which read global tokens too, then global tokens to all."""
        held = torch.tensor([*range(extra), *(extra + i for i in self.global_tokens)])
        if not len(held):
            return super().places(size, extra)
        count, found = min(len(self.reaches(size)), self.heads), []
        for i, reach in enumerate(self.reaches(size)):
            queries, keys = (
                torch.where(each < 0, each, each + extra) for each in numbers(reach.grid(size), reach.folds)
            )
            queries = queries[:, :, 0].masked_fill(torch.isin(queries[:, :, 0], held), -1)
            keys = torch.cat((held.expand(keys.shape[0], 1, -1), keys), dim=2)
            found.append(Places(queries, keys, slice(i, None, count)))
        return (*found, Places(held[None], every(extra + size[0] * size[1])[None]))

    def reaches(self, size: Size) -> list[Reach]:
        """One for each dilation."""
        return [self._reach(dilation, size[1]) for dilation in self.dilations[: self.heads]]

    def _reach(self, dilation: int, columns: int) -> Reach:
        def near(distance: Tensor) -> Tensor:
            return (distance.abs() <= dilation * self.reach) & (distance % dilation == 0)

        def allowed(i: Tensor, j: Tensor) -> Tensor:
            rows_and_columns = (i // columns - j // columns, i % columns - j % columns)
            found = near(rows_and_columns[0]) & near(rows_and_columns[1]) if self.two_d else near(i - j)
            for each in self.global_tokens:  # read already, in the columns of their own
                found = found & (j != each)
            return found

        chunks = Chunks(self.reach, dilation, before=1, after=1)
        return Reach((chunks, chunks) if self.two_d else (chunks,), allowed)

    def set_size(self, size: Size) -> None:
        """Check the global tokens against another grid."""
        if self.global_tokens and not 0 <= min(self.global_tokens) <= max(self.global_tokens) < size[0] * size[1]:
            raise ValueError(f"global_tokens are 0 to {size[0] * size[1] - 1} in this map, not {self.global_tokens}")

    def macs(self, size: Size, extra: int = 0) -> int:
        """4 M C A + 2 N' (3 c + g) A, with 9 c^2 for 3 c in 2-D, + (g + 2 M) C A + 2 g M A."""
        m, inner, g = rows(size, extra), self.heads * self.head_dim, extra + len(self.global_tokens)
        found = [
            pairs(reach.grid(size), reach.folds) + g * pairs(reach.grid(size), reach.folds, keys=False)
            for reach in self.reaches(size)
        ]
        total = 4 * m * self.dim * inner + 2 * self.head_dim * sum(found[i % len(found)] for i in range(self.heads))
        total += 2 * g * m * inner
        return total if self.global_q is None else total + (g + 2 * m) * self.dim * inner
