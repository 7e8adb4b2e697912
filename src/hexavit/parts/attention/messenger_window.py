"""Attention inside windows, each with its messenger token."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hexavit.parts.attention.base import split_joint
from hexavit.parts.attention.partition import crop_map, cut_windows, join_windows, pad_map
from hexavit.parts.attention.places import Places, every, windows_of
from hexavit.parts.attention.window import WindowAttention
from hexavit.parts.contract import Size, Tokens
from hexavit.parts.messengers import split_messengers
from hexavit.parts.registry import register_part


@register_part("attention", "messenger_window")
class MessengerWindowAttention(WindowAttention):
    """Multi-head self-attention inside windows, over the tokens of a window and its messenger token (MSG-Transformer:
    Fang et al., CVPR 2022, section 3.2).

    New in it: windows neither shift nor spread. What a window has to tell the others is in its messenger, an extra
    token; the residual `messenger_exchange` carries it on.

    The logits of a messenger as the query have one learned number for each head, those of a messenger as the key
    another; both stand beside the position's bias, which is of image tokens alone. Maps that M does not divide are
    padded with zeros at the bottom and at the right, as by `window`; M stays on smaller maps. Other extra tokens (a
    class token, in front of the messengers) read all tokens; windows do not read them.

    Shapes: (B, P + H W, C) to the same, the last W of the P extra tokens those of W = ceil(H / M) x ceil(W / M)
    windows. Cost with windows of N = M^2 tokens and A = heads x head_dim: parameters 4 C A + 3 A + C + 2 heads;
    multiply-adds W (N + 1) (4 C A + 2 (N + 1) A), and for other extra tokens (P - W) (4 C A + 2 (P + H W) A).
    Same as hustvl/MSG-Transformer's.

    Args:
        heads: number of heads.
        window: side M of a window in tokens.
        head_dim: width of a head; None for dim / heads.
        qkv_bias: whether q, k and v have a bias.
        attn_drop: dropout rate of the attention maps.
        proj_drop: dropout rate of the output.

    Raises:
        ValueError: a window below 1, or a width that the heads do not divide.
    """

    needs_messengers = True
    no_decay = ("messenger_bias",)
    traced = ""

    def __init__(
        self,
        dim: int,
        size: Size,
        *,
        heads: int,
        window: int = 7,
        head_dim: int | None = None,
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(
            dim,
            size,
            heads=heads,
            window=window,
            shrink=False,
            head_dim=head_dim,
            qkv_bias=qkv_bias,
            attn_drop=attn_drop,
            proj_drop=proj_drop,
        )
        self.side = window
        self.messenger_bias = nn.Parameter(torch.empty(heads, 2))  # as key, as query
        nn.init.trunc_normal_(self.messenger_bias, std=0.02)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + H W, C) to the same."""
        (h, w), window, batch = tokens.size, (self.side, self.side), tokens.image.shape[0]
        counts = self._counts(tokens.size, window)
        after = counts[0] * self.side - h, counts[1] * self.side - w
        others, held = split_messengers(tokens, counts)
        windows = cut_windows(pad_map(tokens.grid, (0, 0), after), counts, window)  # (B W, N, C)

        def messengers(x: Tensor) -> Tensor:
            return x[:, 0].reshape(batch, counts[0] * counts[1], x.shape[2])

        def image(x: Tensor) -> Tensor:
            return crop_map(join_windows(x, batch, counts, window), tokens.size)

        qkv = self._qkv(torch.cat((held.reshape(-1, 1, held.shape[2]), windows), dim=1))  # (B W, 1 + N, 3 A)
        queries, keys, values = self._heads(*split_joint(qkv, 3, self.heads))
        mixed = self.attend(queries, keys, values, scale=self.scale, bias=self._bias(window, queries))
        if self.value_position is not None:
            added, v_image = self.value_position, qkv[:, 1:, -mixed.shape[2] :]
            if added.reach == "map":
                moved = added(tokens.size, image(v_image)).unflatten(1, tokens.size)
                found = cut_windows(pad_map(moved, (0, 0), after), counts, window)
            else:
                found = added(window, v_image)
            mixed = torch.cat((mixed[:, :1], mixed[:, 1:] + found), dim=1)
        out = self.output(mixed)
        extra = messengers(out)
        if tokens.prefix > counts[0] * counts[1]:
            kv = qkv[..., mixed.shape[2] :]
            extra = torch.cat((self._extra(others, torch.cat((messengers(kv), image(kv[:, 1:])), dim=1)), extra), dim=1)
        return tokens.with_image(image(out[:, 1:])).replace_extra(extra)

    def _bias(self, window: Size, queries: Tensor) -> Tensor:
        """What is added to the logits: the position's bias, and in front of it a row and a column for the messenger;
        (1, h, 1 + N, 1 + N), or (B W, h, 1 + N, 1 + N) where it depends on the queries."""
        count = queries.shape[2] - 1
        if self.position is None:
            inside = queries.new_zeros(self.heads, count, count)
        else:
            inside = self.position(window, queries[:, :, 1:]).to(queries.dtype)
        column, row = (each[:, None, None] for each in self.messenger_bias.to(queries.dtype).unbind(1))
        lower = torch.cat((column.expand(*inside.shape[:-1], 1), inside), dim=-1)
        bias = torch.cat((row.expand(*inside.shape[:-2], 1, count + 1), lower), dim=-2)
        return bias if bias.ndim == 4 else bias[None]  # the fused kernel takes no three axes

    def places(self, size: Size, extra: int) -> tuple[Places, ...]:
        """Windows, each with its messenger in front, then other extra tokens to all."""
        window = (self.side, self.side)
        counts = self._counts(size, window)
        others = extra - math.prod(counts)
        messengers = torch.arange(others, extra)[:, None]
        inside = torch.cat((messengers, windows_of(size, extra, counts, window)), dim=1)
        to_all = Places(every(others), every(extra + math.prod(size))[None])
        return (Places(inside, inside[:, None]), to_all)[: 1 + (others > 0)]

    def macs(self, size: Size, extra: int = 0) -> int:
        """W (N + 1) (4 C A + 2 (N + 1) A) + (P - W) (4 C A + 2 (P + H W) A)."""
        count, tokens = math.prod(self._counts(size, (self.side, self.side))), self.side**2 + 1
        inner, each = self.heads * self.head_dim, 4 * self.dim
        others = (extra - count) * inner * (each + 2 * (extra + math.prod(size)))
        return count * tokens * inner * (each + 2 * tokens) + others
