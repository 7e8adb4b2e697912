"""Decoupled dynamic filters equal their sum, place by place. The authors' outputs are in tests/parity."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hexavit.parts import Tokens, record_attention
from hexavit.parts.attention import DecoupledDynamicFilter


def part_of(dim: int = 10, **options: Any) -> DecoupledDynamicFilter:
    torch.manual_seed(0)
    return DecoupledDynamicFilter(dim, **options).double().eval()


def normed(filters: Tensor) -> Tensor:
    """Over the last axis."""
    return (filters - filters.mean(-1, keepdim=True)) / filters.std(-1, keepdim=True)


def plain(part: DecoupledDynamicFilter, x: Tensor) -> Tensor:
    """The sum over offsets at each place, of one image (C, H, W)."""
    k, s, d = part.kernel, part.stride, part.dilation
    channels, height, width = x.shape
    mean = part.expand(F.relu(part.squeeze(x.mean(dim=(1, 2))[None, :, None, None])))
    of_channel = normed(mean.view(channels, k * k)) * part.std.view(channels, k * k)
    out = torch.zeros(channels, -(-height // s), -(-width // s), dtype=x.dtype)
    for y, column in product(range(out.shape[1]), range(out.shape[2])):
        mapped = part.spatial.weight[:, :, 0, 0] @ x[:, s * y, s * column] + part.spatial.bias
        of_place = normed(mapped.view(part.heads, k * k)) * 2**0.5 / k
        of_place = of_place.repeat_interleave(channels // part.heads, dim=0)
        filters = of_channel * of_place if part.combine == "mul" else of_channel + of_place
        for i, j in product(range(k), range(k)):
            row, col = s * y + d * (i - k // 2), s * column + d * (j - k // 2)
            if 0 <= row < height and 0 <= col < width:
                out[:, y, column] += filters[:, k * i + j] * x[:, row, col]
    return out


@pytest.mark.parametrize("combine", ["mul", "add"])
@pytest.mark.parametrize(
    "options", [{}, {"heads": 5, "stride": 2}, {"kernel": 5, "dilation": 2, "stride": 3, "heads": 2}], ids=str
)
@torch.no_grad()
def test_it_is_the_sum_over_offsets(combine: str, options: dict[str, Any]) -> None:
    """On a map that no stride divides."""
    part, x = part_of(combine=combine, **options), torch.randn(1, 10, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(part(Tokens.of_map(x)).map[0], plain(part, x[0]))


def test_recorded_filters_are_those_of_each_place_and_channel() -> None:
    part = part_of(stride=2)
    with record_attention(part) as maps:
        part(Tokens.of_map(torch.randn(2, 10, 5, 7, dtype=torch.float64)))
    (found,) = maps[""]
    assert found.shape == (2, 10, 12, 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"combine": "sum"}, "there is no combine 'sum'"),
        ({"kernel": 4}, "kernel must be odd"),
        ({"kernel": 1}, "a kernel of 1 has one value"),
        ({"heads": 3}, "does not divide by 3 heads"),
        ({"stride": 0}, "stride is at least 1"),
        ({"se_ratio": 0.05}, "leaves no width of 10 channels"),
    ],
)
def test_options_that_do_not_fit_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        part_of(**options)
