"""Attention in which a query reads some of the keys: the patterns of the Sparse Transformer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.errors import nearest
from hexavit.parts.attention.base import Attention, split_heads
from hexavit.parts.attention.folding import AxisFold, Chunks, Folds, Summaries, fold, numbers, pairs, unfold
from hexavit.parts.attention.places import Places, Weights, every
from hexavit.parts.contract import Size, Tokens, rows
from hexavit.parts.layers import known
from hexavit.parts.registry import register_part

PatternName = Literal["local", "strided", "block", "summary"]


class Reach(NamedTuple):
    """Who attends to whom.

    Attributes:
        folds: groups of queries and keys, of the sequence (one) or of the map (one for each axis).
        allowed: whether a query i reads a key j of its group, by their numbers in the map row by row.
    """

    folds: Folds
    allowed: Callable[[Tensor, Tensor], Tensor]

    def grid(self, size: Size) -> tuple[int, ...]:
        """What is folded: the sequence of all tokens, or the map."""
        return size if len(self.folds) == 2 else (size[0] * size[1],)


class ReachingAttention(Attention):
    """Base of attentions in which image tokens read the keys of one or several `Reach`es, which heads take in turn.

    Pairs of other groups are never computed: the memory is that of the groups, not of the N x N map. Only
    `record_attention` builds that, (B, h, N, P + N) with a column for each global key.
    """

    needs = "raster"
    traced = "how the tokens divide into groups; a size at which they divide otherwise raises an error"

    def reaches(self, size: Size) -> Sequence[Reach]:
        """The reaches on a map of `size`."""
        raise NotImplementedError

    def mixed(self, qkv: Tensor, size: Size, common: Tensor | None = None) -> Tensor:
        """Attend among image tokens.

        Args:
            qkv: q, k and v (B, N, 3, h, d).
            size: the grid of the tokens.
            common: k and v (B, P, 2, h, d) that all queries read too.

        Returns:
            (B, N, h d), heads side by side.
        """
        reaches = self.reaches(size)
        count = len(reaches)
        if count == 1:
            return self._reached(qkv, reaches[0], size, common)
        found = [
            self._reached(qkv[:, :, :, i::count], reach, size, None if common is None else common[:, :, :, i::count])
            for i, reach in enumerate(reaches[: self.heads])
        ]
        order = [head for i in range(count) for head in range(i, self.heads, count)]
        back = [order.index(head) for head in range(self.heads)]
        if self.maps is not None:
            of_heads = [self.maps.pop() for _ in found][::-1]
            self.maps.append(torch.cat(of_heads, dim=1)[:, back])
        return torch.cat([each.unflatten(2, (-1, self.head_dim)) for each in found], dim=2)[:, :, back].flatten(2)

    def _reached(self, qkv: Tensor, reach: Reach, size: Size, common: Tensor | None) -> Tensor:
        """(B, N, 3, h', d) to (B, N, h' d)."""
        batch = qkv.shape[0]
        q, k, v = self._folded(qkv, reach, size)
        allowed = allowed_pairs(reach, size, qkv.device)
        bias = as_bias(allowed, q.dtype, open_rows=common is None)
        if common is not None:  # each group reads a copy
            shape = (batch, allowed.shape[0], -1, -1, -1)
            of_all = (each.transpose(1, 2)[:, None].expand(shape).flatten(0, 1) for each in common.unbind(2))
            k, v = (torch.cat((each, held), dim=2) for each, held in zip(of_all, (k, v), strict=True))
            bias = F.pad(bias, (common.shape[1], 0))
        out = self.attend(q, k, v, scale=self.head_dim**-0.5, bias=bias[:, None].repeat(batch, 1, 1, 1))
        prefix = 0 if common is None else common.shape[1]
        read = allowed.any(dim=-1, keepdim=True).repeat(batch, 1, 1).to(out.dtype)  # (B G, Q, 1)
        if common is None:
            out = out * read
        if self.maps is not None:
            maps = self.maps.pop()
            self.maps.append(over_all(maps if prefix else maps * read[:, None], reach, size, prefix))
        return unfold(out, batch, reach.folds, reach.grid(size))

    def places(self, size: Size, extra: int) -> tuple[Places, ...]:
        """The groups of each reach, then extra tokens to all."""
        count, tokens = min(len(self.reaches(size)), self.heads), size[0] * size[1]
        found = [
            self.reach_places(reach, size, extra)._replace(heads=slice(i, None, count))
            for i, reach in enumerate(self.reaches(size)[:count])
        ]
        return (*found, Places(every(extra), every(extra + tokens)[None]))[: count + (extra > 0)]

    @staticmethod
    def reach_places(reach: Reach, size: Size, extra: int) -> Places:
        """The queries and keys of each group of a reach; a query that reads nothing has no number."""
        queries, keys = (torch.where(each < 0, each, each + extra) for each in numbers(reach.grid(size), reach.folds))
        reads = allowed_pairs(reach, size).any(dim=-1, keepdim=True)
        return Places(torch.where(reads, queries, -1)[:, :, 0], keys)

    def _folded(self, qkv: Tensor, reach: Reach, size: Size) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, 3, h', d) to q (B G, h', Q, d), and k and v (B G, h', K, d)."""
        heads = qkv.shape[3]
        q, k, v = (each.flatten(2).unflatten(1, reach.grid(size)) for each in qkv.unbind(2))
        keys = fold(torch.cat((k, v), dim=-1), reach.folds, "keys").chunk(2, dim=2)
        return (
            split_heads(fold(q, reach.folds, "queries"), heads),
            split_heads(keys[0], heads),
            split_heads(keys[1], heads),
        )


def allowed_pairs(reach: Reach, size: Size, device: torch.device | None = None) -> Tensor:
    """Whether each query of a group reads each of its keys: (G, Q, K)."""
    queries, keys = numbers(reach.grid(size), reach.folds, device)
    found: Tensor = (keys >= 0) & (queries >= 0) & reach.allowed(queries, keys)
    return found


def as_bias(allowed: Tensor, dtype: torch.dtype, open_rows: bool = True) -> Tensor:
    """0 where allowed, else -inf; with `open_rows` a row without any is 0, as its softmax would be NaN."""
    masked = ~allowed & allowed.any(dim=-1, keepdim=True) if open_rows else ~allowed
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(masked, -torch.inf)


def over_all(maps: Tensor, reach: Reach, size: Size, prefix: int = 0) -> Tensor:
    """Maps of groups (B G, h, Q, P + K) as maps of all tokens (B, h, N, P + N)."""
    grid = reach.grid(size)
    queries, keys = numbers(grid, reach.folds, maps.device)
    groups, count = queries.shape[0], size[0] * size[1]
    heads = maps.shape[1]
    batch = maps.shape[0] // groups
    by_query = unfold(maps.transpose(1, 2).flatten(2), batch, reach.folds, grid)
    by_query = by_query.unflatten(2, (heads, -1)).transpose(1, 2)  # (B, h, N, P + K)
    at = keys.expand(groups, queries.shape[1], -1)
    at = unfold(at, 1, reach.folds, grid)[:, None].clamp(min=0)
    out = by_query.new_zeros(*by_query.shape[:3], count)
    out = out.scatter_add(3, at.expand(*by_query.shape[:2], -1, -1), by_query[..., prefix:])
    return torch.cat((by_query[..., :prefix], out), dim=3)


@register_part("attention", "sparse")
class SparseAttention(ReachingAttention):
    """Factorised self-attention of the Sparse Transformer (Child et al., 2019, section 4.2 and 4.3).

    New in it: each query reads about sqrt(N) keys, and two steps reach every pair. Tokens are numbered row by row. With
    j a key of query i and l the stride: `local` |i - j| < l, `strided` (i - j) mod l = 0, `block` i and j in one of the
    blocks of l tokens, `summary` j among the last `summary` tokens of any block. With l the row length, `block` is the
    row and `strided` the column: axial attention. `causal` keeps j <= i, as the paper's models of sequences do. Extra
    tokens, which the paper has not, read all tokens; image tokens do not read them.

    Shapes: (B, P + N, C) to the same. Cost with A = heads x head_dim: parameters 4 C A + 3 A + C; multiply-adds
    4 (P + N) C A + 2 P (P + N) A and 2 R d for the pairs R of all heads that are computed: N' 3 l (`local`; `causal`
    2 l), N' N' / l (`strided`), N' l (`block`) or N s N' / l (`summary`) a head, N' being N with the padding.
    Same sets of keys as openai/sparse_attention with l keys in `local`; its kernels have them in blocks of 32.

    Args:
        heads: number of heads.
        patterns: one to four of `local`, `strided`, `block`, `summary`.
        merge: whether all heads read the union of the patterns, each key once, in one softmax; else heads take the
            patterns in turn. A `Pattern` of parts with one pattern each has them in turn over the blocks.
        stride: l in tokens; None for the number of columns of the map.
        summary: number of summary tokens of a block (the paper's c), at most l.
        wide: whether `local` reaches l tokens far, as in the paper's formula, not l - 1.
        causal: whether a query reads no later key.
        head_dim: width d of a head; None for dim / heads.
        qkv_bias: whether q, k and v have a bias.
        attn_drop: dropout rate of the attention maps.
        proj_drop: dropout rate of the output.

    Raises:
        ValueError: an unknown pattern, fewer heads than patterns without `merge`, or a stride or summary below 1.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        patterns: tuple[str, ...] = ("local", "strided"),
        merge: bool = True,
        stride: int | None = None,
        summary: int = 1,
        wide: bool = False,
        causal: bool = False,
        head_dim: int | None = None,
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(attn_drop, proj_drop)
        for name in patterns:
            if name not in get_args(PatternName):
                raise ValueError(f"there is no pattern {name!r}: {nearest(name, get_args(PatternName))}")
        if not patterns or (stride is not None and stride < 1) or not 1 <= summary <= (stride or summary):
            raise ValueError(
                f"patterns are at least one, stride and summary at least 1 and summary at most stride, not {patterns}, "
                f"{stride} and {summary}"
            )
        inner = self._set_heads(dim, heads, head_dim)
        if not merge and heads < len(patterns):
            raise ValueError(f"heads={heads} cannot take {len(patterns)} patterns in turn: use merge=true")
        self.patterns, self.merge = tuple(patterns), merge and len(patterns) > 1
        self.period, self.summary, self.wide, self.causal = stride, summary, wide, causal
        self.qkv = nn.Linear(dim, 3 * inner, bias=qkv_bias)
        self.proj = nn.Linear(inner, dim)
        if causal and not self.merge and "summary" in self.patterns:
            self.maps_are = "mixed"  # the first queries read nothing
        if self.merge:
            self.fused = "never"
            self.fused_reason = "the softmax is over keys that are gathered in several ways"

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + N, C) to the same."""
        prefix = tokens.prefix
        qkv = self.qkv(tokens.sequence).unflatten(2, (3, self.heads, self.head_dim))  # (B, P + N, 3, h, d)
        image = qkv[:, prefix:]
        mixed = (self._merged if self.merge else self.mixed)(image, tokens.size)
        if prefix:
            q, k, v = qkv.transpose(1, 3).unbind(2)  # (B, h, P + N, d)
            of_extra = self.attend(q[:, :, :prefix], k, v, scale=self.head_dim**-0.5, record=False)
            mixed = torch.cat((of_extra, mixed), dim=1)
        out = self.output(mixed)
        return Tokens(out, tokens.size, prefix=prefix, layout=tokens.layout, carry=tokens.carry)

    def _merged(self, qkv: Tensor, size: Size) -> Tensor:
        """As `mixed`, in one softmax over the union: those of the patterns, weighed by their sums of exponentials."""
        outs, sums, recorded, groups = [], [], [], []
        reaches = self.reaches(size)
        for k, reach in enumerate(reaches):
            grid, alone = reach.grid(size), partial(self._alone, reaches[:k], reach)
            q, keys, values = self._folded(qkv, reach, size)
            allowed = allowed_pairs(reach._replace(allowed=alone), size, qkv.device)
            bias = as_bias(allowed, q.dtype)[:, None].repeat(qkv.shape[0], 1, 1, 1)
            logits = (q * self.head_dim**-0.5) @ keys.transpose(-2, -1) + bias
            nothing = ~allowed.any(dim=-1)[:, None].repeat(qkv.shape[0], 1, 1)  # (B G, 1, Q)
            total = logits.logsumexp(dim=-1).masked_fill(nothing, -torch.inf)
            maps = logits.softmax(dim=-1)
            out = F.dropout(maps, self.attn_drop if self.training else 0.0).to(values.dtype) @ values
            outs.append(unfold(out.transpose(1, 2).flatten(2), qkv.shape[0], reach.folds, grid))
            sums.append(unfold(total.transpose(1, 2), qkv.shape[0], reach.folds, grid))
            if self.maps is not None:
                recorded.append(over_all(maps.detach(), reach, size))
            groups.append(maps)
        share = torch.stack(sums).softmax(dim=0)  # (patterns, B, N, h)
        if self.maps is not None:
            self.maps.append((torch.stack(recorded) * share.detach().transpose(2, 3)[..., None]).sum(dim=0))
        if self.reader is not None:
            for maps, reach, part in zip(groups, reaches, share, strict=True):
                folded = fold(part.unflatten(1, reach.grid(size)), reach.folds, "queries")  # (B G, Q, h)
                self.reader(Weights.of((maps * folded.transpose(1, 2)[..., None]).detach()))
        values = torch.stack(outs).unflatten(3, (self.heads, self.head_dim))
        mixed: Tensor = (values * share[..., None].to(values.dtype)).sum(dim=0)
        return mixed.flatten(2)

    @staticmethod
    def _alone(earlier: Sequence[Reach], reach: Reach, i: Tensor, j: Tensor) -> Tensor:
        """The pairs of a reach that no earlier one has."""
        found = reach.allowed(i, j)
        for other in earlier:
            found = found & ~other.allowed(i, j)
        return found

    def places(self, size: Size, extra: int) -> tuple[Places, ...]:
        """As of every `ReachingAttention`; where heads read the union, each call has all of them."""
        if not self.merge:
            return super().places(size, extra)
        reaches = self.reaches(size)
        alone = [reach._replace(allowed=partial(self._alone, reaches[:i], reach)) for i, reach in enumerate(reaches)]
        to_all = Places(every(extra), every(extra + size[0] * size[1])[None])
        found = [self.reach_places(reach, size, extra) for reach in alone]
        return (*found, to_all)[: len(found) + (extra > 0)]

    def reaches(self, size: Size) -> list[Reach]:
        """One for each pattern."""
        return [self._reach(name, size[1]) for name in self.patterns]

    def _folds(self, name: str, columns: int) -> Folds:
        after = 0 if self.causal else 1
        if self.period is not None:
            of_sequence: dict[str, AxisFold] = {
                "local": Chunks(self.period, before=1, after=after),
                "strided": Chunks(step=self.period),
                "block": Chunks(self.period),
                "summary": Summaries(self.period, self.summary),
            }
            return (of_sequence[name],)
        last = min(self.summary, columns) if known(columns) else self.summary
        of_rows_and_columns: dict[str, Folds] = {  # the same groups, without the length of the sequence
            "local": (Chunks(1, before=1, after=after), Chunks()),
            "strided": (Chunks(), Chunks(1)),
            "block": (Chunks(1), Chunks()),
            "summary": (Chunks(), Summaries(None, last)),
        }
        return of_rows_and_columns[name]

    def _reach(self, name: str, columns: int) -> Reach:
        period = self.period or columns

        def allowed(i: Tensor, j: Tensor) -> Tensor:
            if name == "local":
                found = (i - j).abs() < period + self.wide
            elif name == "strided":
                found = (i - j) % period == 0
            elif name == "block":
                found = i // period == j // period
            else:
                found = j % period >= period - self.summary
            return found & (j <= i) if self.causal else found

        return Reach(self._folds(name, columns), allowed)

    def macs(self, size: Size, extra: int = 0) -> int:
        """4 (P + N) C A + 2 P (P + N) A + 2 R d."""
        m, inner = rows(size, extra), self.heads * self.head_dim
        found = [pairs(reach.grid(size), reach.folds) for reach in self.reaches(size)]
        of_heads = [sum(found)] * self.heads if self.merge else [found[i % len(found)] for i in range(self.heads)]
        return 4 * m * self.dim * inner + 2 * extra * m * inner + 2 * self.head_dim * sum(of_heads)
