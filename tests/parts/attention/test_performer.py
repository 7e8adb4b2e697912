"""Performer attention against its formula, in float32 where autocast would lower it."""

import pytest
import torch

from hexavit.parts import Tokens
from hexavit.parts.attention import PerformerAttention
from hexavit.parts.attention.performer import performer_attention, performer_map, random_features


def written_out(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """The formula in float64, a query at a time."""
    q, k, v, w = (t.double() for t in (q, k, v, w))

    def phi(u: torch.Tensor) -> torch.Tensor:
        return torch.exp(w @ u - u @ u / 2) / len(w) ** 0.5

    rows = []
    for one in q:
        weights = torch.stack([phi(one) @ phi(other) for other in k])
        rows.append((weights[:, None] * v).sum(0) / (weights.sum() + 1e-8))
    return torch.stack(rows)


@pytest.fixture
def drawn() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 20, 32).unbind()  # standard normal: phi is around 1e-7, below half precision
    return q, k, v, random_features(16, 32)


@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16])
def test_the_formula(drawn: tuple[torch.Tensor, ...], dtype: torch.dtype | None) -> None:
    expected = written_out(*drawn)
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        found = performer_attention(*drawn)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-6 * expected.abs().max().item())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_are_computed_in_float32(drawn: tuple[torch.Tensor, ...], dtype: torch.dtype) -> None:
    q, k, v, w = (t.to(dtype) for t in drawn)
    expected = written_out(q, k, v, w)
    with torch.autocast("cpu", dtype):
        found = performer_attention(q, k, v, w)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=0.01, atol=0.01 * expected.abs().max().item())


def test_rows_of_the_map_sum_to_one(drawn: tuple[torch.Tensor, ...]) -> None:
    q, k, _, w = drawn
    with torch.autocast("cpu", torch.float16):
        found = performer_map(q, k, w)
    torch.testing.assert_close(found.sum(-1), torch.ones(20))


def test_the_part_scales_queries_and_keys_by_the_fourth_root() -> None:
    """Choromanski et al., ICLR 2021, eq. 5: q k^T / sqrt(d) is shared by both; 16^-0.25 = 1 / 2."""
    torch.manual_seed(0)
    part = PerformerAttention(16, heads=1)
    x = 3 * torch.randn(12, 16)
    q, k, v = part.qkv(x).detach().chunk(3, dim=1)
    expected = part.proj(written_out(q / 2, k / 2, v, part.w.detach()).float())
    torch.testing.assert_close(part(Tokens(x[None], (4, 3))).image[0], expected, rtol=1e-3, atol=1e-5)
