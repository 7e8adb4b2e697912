"""Convolutional tokens are those of a plain convolution, whatever memory format they are computed in."""

import pytest
import torch
from torch.nn import functional as F

from hexavit.network.composition import as_tokens
from hexavit.parts.contract import Tokens
from hexavit.parts.tokens import ConvTokens

CASES = {
    "patches": (3, 16, 16, 0, (40, 32)),
    "small patches": (3, 4, 4, 0, (9, 12)),
    "patches of tokens": (24, 8, 8, 0, (16, 24)),
    "overlapping": (3, 7, 4, 3, (33, 28)),
    "many weights, few tokens": (24, 3, 2, 1, (3, 2)),
    "many tokens": (8, 3, 2, 1, (30, 31)),
}


@pytest.mark.parametrize("weights", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("case", CASES)
def test_tokens_are_those_of_the_convolution(case: str, weights: torch.memory_format) -> None:
    """Values and gradients, of an image or of tokens behind extra ones, for weights in both memory formats."""
    width, kernel, stride, padding, size = CASES[case]
    torch.manual_seed(0)
    part = ConvTokens(width, 32, 1e-6, kernel=kernel, stride=stride, padding=padding, norm=False)
    part.to(memory_format=weights)
    images = torch.randn(2, width, *size)
    joined = torch.cat((torch.randn(2, 1, width), images.flatten(2).transpose(1, 2)), dim=1)
    given = {
        "image": as_tokens(images),
        "channels-last image": as_tokens(images.contiguous(memory_format=torch.channels_last)),
        "tokens behind an extra one": Tokens(joined, size, prefix=1),
    }
    weight = part.conv.weight.detach().double().requires_grad_()
    expected = F.conv2d(images.double(), weight, part.conv.bias.detach().double(), stride, padding)
    (gradient,) = torch.autograd.grad(expected.square().sum(), weight)
    for name, tokens in given.items():
        out = part(tokens)
        assert out.size == tuple(expected.shape[2:]), name
        torch.testing.assert_close(out.map.double(), expected, rtol=1e-5, atol=1e-5, msg=name)
        (found,) = torch.autograd.grad(out.map.square().sum(), part.conv.weight)
        torch.testing.assert_close(found.double(), gradient, rtol=1e-4, atol=1e-3, msg=name)


def test_the_images_memory_is_read() -> None:
    """No image is copied before a convolution into patches, in evaluation or in training."""
    images = torch.randn(2, 3, 32, 32)
    part = ConvTokens(3, 32, 1e-6, kernel=16, stride=16, norm=False)
    seen: list[torch.Tensor] = []
    part.conv.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    part(as_tokens(images))
    assert seen[0].data_ptr() == images.data_ptr()
    assert seen[0].is_contiguous()
