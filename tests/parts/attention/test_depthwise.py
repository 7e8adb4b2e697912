"""DWNet's depth-wise convolutions: predicted filters equal what a plain loop computes."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hexavit.parts import Tokens, record_attention
from hexavit.parts.attention import DepthwiseAttention


def part_of(filters: str, dim: int = 8, **options: Any) -> DepthwiseAttention:
    torch.manual_seed(0)
    part = DepthwiseAttention(dim, kernel=3, filters=filters, **options).double().eval()
    for module in part.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.normal_(module.running_mean, std=0.1)
    return part


def image() -> Tensor:
    return torch.randn(2, 8, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def around(part: DepthwiseAttention, x: Tensor, filters: Tensor) -> Tensor:
    """The part with filters (B, C, 3, 3, H, W), as a plain loop over places."""
    x = F.relu(part.norm_in(part.proj_in(x)))
    padded, out = F.pad(x, (1, 1, 1, 1)), torch.zeros_like(x)
    for y, column, i, j in product(range(5), range(4), range(3), range(3)):
        out[:, :, y, column] += filters[:, :, i, j, y, column] * padded[:, :, y + i, column + j]
    bias = getattr(part.conv, "bias", None)
    out = out if bias is None else out + bias[:, None, None]
    return part.norm_out(part.proj(F.relu(part.norm(out))))


@torch.no_grad()
def test_static_filters_are_a_convolution() -> None:
    part, x = part_of("static"), image()
    expected = around(part, x, part.conv.weight[None, :, 0, :, :, None, None].expand(2, 8, 3, 3, 5, 4))
    torch.testing.assert_close(part(Tokens.of_map(x)).map, expected)


@torch.no_grad()
def test_dynamic_filters_are_of_an_image() -> None:
    part, x = part_of("dynamic"), image()
    part.conv.bias.normal_()
    mean = F.relu(part.norm_in(part.proj_in(x))).mean(dim=(2, 3), keepdim=True)
    network = part.conv.image_filters
    filters = network.fc2(F.relu(network.norm(network.fc1(mean)))).view(2, 8, 3, 3, 1, 1)
    torch.testing.assert_close(part(Tokens.of_map(x)).map, around(part, x, filters.expand(2, 8, 3, 3, 5, 4)))


@pytest.mark.parametrize("heads", [4, None])
@torch.no_grad()
def test_inhomogeneous_filters_are_of_a_place_and_a_head(heads: int | None) -> None:
    part, x = part_of("inhomogeneous", heads=heads), image()
    network = part.conv.place_filters
    hidden = F.relu(part.norm_in(part.proj_in(x)))
    filters = network.fc2(F.relu(network.norm(network.fc1(hidden)))).view(2, heads or 8, 3, 3, 5, 4)
    expected = around(part, x, filters.repeat_interleave(8 // (heads or 8), dim=1))
    torch.testing.assert_close(part(Tokens.of_map(x)).map, expected)


@pytest.mark.parametrize(("filters", "heads"), [("static", 8), ("dynamic", 8), ("inhomogeneous", 4)])
def test_recorded_filters_are_those_of_each_place(filters: str, heads: int) -> None:
    part = part_of(filters, **({"heads": 4} if heads == 4 else {}))
    with record_attention(part) as maps:
        part(Tokens.of_map(image()))
    (found,) = maps[""]
    assert found.shape == (2, heads, 20, 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": "learned"}, "there are no filters 'learned'"),
        ({"filters": "static", "heads": 2}, "heads=2 is of filters='inhomogeneous'"),
        ({"filters": "inhomogeneous", "heads": 3}, "does not divide by 3 heads"),
        ({"filters": "dynamic", "reduction": 9}, "reduction is from 1 to the width of 8"),
        ({"kernel": 2}, "kernel must be odd"),
    ],
)
def test_options_that_do_not_fit_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DepthwiseAttention(8, **options)
