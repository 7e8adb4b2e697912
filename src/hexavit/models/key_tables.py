"""The terms of a table of checkpoint keys: what becomes of a tensor, and the shapes that others give it.

A table maps their key to ours. `{}` stands for an index, `*` for the last name (`weight`, `bias`, `running_mean`);
both are carried over in their order. What a key becomes:

    "ours"                      the same tensor under another name
    As("ours", form)            reshaped
    Split("q", "k", form=...)   one tensor of theirs, cut into equal parts along its first axis; a part None is 0 there
    Join("ours", form=...)      several of theirs (the key is a tuple) set behind each other along the first axis
    Copies("ours")              several of theirs (the key is a tuple) are equal to one of ours; some may be absent
    None                        dropped on purpose
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Form:
    """Another shape of the same numbers: `ours(theirs)`, and back with the number of heads in that block."""

    name: str
    ours: Callable[[Tensor], Tensor]
    theirs: Callable[[Tensor, int], Tensor]


SAME = Form("as it is", lambda t: t, lambda t, heads: t)
POINTWISE = Form("1x1 convolution (o, i, 1, 1)", lambda t: t[:, :, 0, 0], lambda t, heads: t[:, :, None, None])
CHANNELS = Form("over channels (1, C, 1, 1)", lambda t: t[0, :, 0, 0], lambda t, heads: t[None, :, None, None])
TRANSPOSED = Form("transposed (i, o)", lambda t: t.mT, lambda t, heads: t.mT)
HWIO = Form("(kh, kw, i, o)", lambda t: t.permute(3, 2, 0, 1), lambda t, heads: t.permute(2, 3, 1, 0))
COPIES = Form("copies of one tensor", lambda t: t, lambda t, heads: t)
SEQUENCE_FIRST = Form("sequence first (M, 1, C)", lambda t: t.transpose(0, 1), lambda t, heads: t.transpose(0, 1))
HEADS_OUT = Form("(C, h, d)", lambda t: t.flatten(1).mT, lambda t, heads: t.mT.unflatten(1, (heads, -1)))
HEADS_BIAS = Form("(h, d)", lambda t: t.flatten(), lambda t, heads: t.unflatten(0, (heads, -1)))
HEADS_IN = Form("(h, d, C)", lambda t: t.flatten(0, 1).mT, lambda t, heads: t.mT.unflatten(0, (heads, -1)))


@dataclass(frozen=True)
class As:
    """One tensor, reshaped."""

    ours: str
    form: Form


class Split:
    """One tensor of theirs is several of ours, along the first axis, in this order; None for a part that is 0 there
    and has no place here."""

    def __init__(self, *ours: str | None, form: Form = SAME) -> None:
        self.ours, self.form = ours, form


@dataclass(frozen=True)
class Join:
    """Several tensors of theirs are one of ours, along an axis, in the order of the row's key: equal parts of it, or
    `shares` of it, as (2, 1) for two thirds and one."""

    ours: str
    form: Form = SAME
    axis: int = 0
    shares: tuple[int, ...] = ()


@dataclass(frozen=True)
class Copies:
    """Several tensors of theirs are copies of one of ours: a module of theirs that has several names."""

    ours: str


Rows = dict[str | tuple[str, ...], str | As | Split | Join | Copies | None]
Table = Mapping[str | tuple[str, ...], str | As | Split | Join | Copies | None]
