"""Reshaping that a compiler with symbolic sizes follows at little cost."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def reshaped(x: Tensor, first: Sequence[int], *rest: int) -> Tensor:
    """Reshape a tensor to (*first, *rest): the same as `x.reshape(*first, *rest)`.

    A compiler with symbolic sizes computes the sizes of a view by dividing those of the tensor, and cannot simplify
    the quotients, so that every view makes all later sizes longer. It keeps sizes as given where one dimension becomes
    two. `first` and `rest` are chosen so that each divides from the left without a quotient of two unknown sizes.
    """
    rows, columns = first[0], rest[0]
    for size in first[1:]:  # math.prod gives no symbol
        rows = rows * size
    for size in rest[1:]:
        columns = columns * size
    halves = x.reshape(-1).view(rows, columns)
    return halves if len(first) == len(rest) == 1 else halves.view(*first, *rest)
