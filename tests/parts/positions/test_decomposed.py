"""Decomposed relative positions, against offsets written out pair by pair."""

import math

import pytest
import torch
from torch import Tensor

from hexavit.parts.contract import Scope
from hexavit.parts.positions import DecomposedRelative
from hexavit.parts.positions.decomposed import pair_offsets


def position(scope: tuple[int, int], key_scope: tuple[int, int]) -> DecomposedRelative:
    torch.manual_seed(0)
    part = DecomposedRelative(2, 4, scope, key_scope)
    for table in (part.table_h, part.table_w):
        torch.nn.init.normal_(table)
    return part


def row(i: int, j: int, queries: int, keys: int) -> int:
    """The row of query i and key j, in whole numbers: offsets in steps of the finer grid."""
    larger = max(queries, keys)
    return (i * larger * keys + (keys - 1 - j) * larger * queries) // (queries * keys)


@pytest.mark.parametrize(("queries", "keys"), [(8, 8), (8, 2), (2, 8), (5, 10), (6, 3), (1, 4), (4, 1)])
def test_rows_of_grids_of_which_one_divides_the_other(queries: int, keys: int) -> None:
    found = pair_offsets(queries, keys, torch.device("cpu"))
    assert found.tolist() == [[row(i, j, queries, keys) for j in range(keys)] for i in range(queries)]
    assert 0 <= found.min() <= found.max() <= 2 * max(queries, keys) - 2


def test_queries_56_and_keys_14_are_not_centred() -> None:
    found = pair_offsets(56, 14, torch.device("cpu"))
    assert (found.min().item(), found.max().item()) == (0, 107)  # of 111 rows


@pytest.mark.parametrize(("queries", "keys"), [(5, 3), (9, 5), (7, 4), (13, 7), (4, 7)])
def test_rows_of_other_grids_stay_in_the_table(queries: int, keys: int) -> None:
    found = pair_offsets(queries, keys, torch.device("cpu"))
    assert 0 <= found.min() <= found.max() <= 2 * max(queries, keys) - 2
    exact = torch.tensor([[row(i, j, queries, keys) for j in range(keys)] for i in range(queries)])
    assert (found - exact).abs().max() <= 1  # float32 may be just below a whole number, as in the authors' code


@pytest.mark.parametrize(("scope", "key_scope"), [((4, 6), (4, 6)), ((4, 6), (2, 3)), ((2, 3), (4, 3))])
@torch.no_grad()
def test_each_pair_reads_the_rows_of_its_offsets(scope: tuple[int, int], key_scope: tuple[int, int]) -> None:
    part = position(scope, key_scope)
    q = torch.randn(3, 2, math.prod(scope), 4)
    found = part(scope, q, key_scope)
    assert found.shape == (3, 2, math.prod(scope), math.prod(key_scope))
    for n in range(math.prod(scope)):
        for m in range(math.prod(key_scope)):
            down = row(n // scope[1], m // key_scope[1], scope[0], key_scope[0])
            across = row(n % scope[1], m % key_scope[1], scope[1], key_scope[1])
            expected = q[:, :, n] @ part.table_h[down] + q[:, :, n] @ part.table_w[across]
            torch.testing.assert_close(found[:, :, n, m], expected)


def resized(table: Tensor, length: int) -> Tensor:
    """Linear interpolation with half-pixel centres, value by value."""
    out = torch.empty(length, table.shape[1])
    for i in range(length):
        at = min(max((i + 0.5) * len(table) / length - 0.5, 0), len(table) - 1)
        low = int(at)
        high = min(low + 1, len(table) - 1)
        out[i] = table[low] * (1 - at + low) + table[high] * (at - low)
    return out


@torch.no_grad()
def test_another_size_resizes_the_tables_linearly() -> None:
    part, larger = position((4, 4), (2, 2)), ((6, 8), (3, 4))
    q = torch.randn(1, 2, 48, 4)
    called = part(larger[0], q, larger[1])
    tables = [resized(part.table_h, 11), resized(part.table_w, 15)]
    part.set_scope(Scope(*larger, 2))
    torch.testing.assert_close(part.table_h, tables[0])
    torch.testing.assert_close(part.table_w, tables[1])
    torch.testing.assert_close(part(larger[0], q, larger[1]), called)


@pytest.mark.parametrize(("scope", "key_scope"), [((4, 6), (4, 6)), ((4, 6), (2, 3)), ((2, 3), (4, 3))])
def test_an_exported_graph_computes_the_same(scope: tuple[int, int], key_scope: tuple[int, int]) -> None:
    """Its products are other ones than PyTorch's einsum."""

    class Bias(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = position(scope, key_scope)

        def forward(self, q: Tensor) -> Tensor:
            return self.part(scope, q, key_scope)

    model, q = Bias(), torch.randn(3, 2, math.prod(scope), 4)
    program = torch.export.export(model, (q,))
    assert not any("einsum" in str(node.target) or "bmm" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(q), model(q))
