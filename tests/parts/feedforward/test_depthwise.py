"""A depth-wise convolution as a branch, against PyTorch's on a map."""

import pytest
import torch
from torch.nn import functional as F

from hexavit.parts import Tokens
from hexavit.parts.feedforward import DepthwiseConv


def test_it_convolves_the_map_and_gives_extra_tokens_0() -> None:
    part, image = DepthwiseConv(6, kernel=5), torch.randn(2, 6, 7, 4)
    out = part(Tokens.of_map(image).with_extra(torch.randn(2, 3, 6)))
    torch.testing.assert_close(out.map, F.conv2d(image, part.conv.weight, part.conv.bias, padding=2, groups=6))
    assert torch.equal(out.extra, torch.zeros(2, 3, 6))


def test_an_even_kernel_raises() -> None:
    with pytest.raises(ValueError, match="kernel must be odd, not 4"):
        DepthwiseConv(6, kernel=4)
