"""Activations on tensors that their caller owns."""

import pytest
import torch
from torch.nn import functional as F

from hexavit.parts.layers import activation

FUNCTIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "hardswish": F.hardswish,
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_same_values_with_and_without_gradients(name: str) -> None:
    x = torch.linspace(-8, 8, 101)
    expected = FUNCTIONS[name](x)
    given = x.clone()
    torch.testing.assert_close(activation(name)(given), expected)
    assert torch.equal(given, x)  # a gradient may be asked for: the input is kept
    with torch.no_grad():
        torch.testing.assert_close(activation(name)(given), expected)


def test_the_widest_tensor_is_overwritten_where_no_gradient_is_recorded() -> None:
    x = torch.randn(3, 4)
    with torch.inference_mode():
        assert activation("gelu")(x).data_ptr() == x.data_ptr()


def test_an_unknown_name_meets_the_nearest() -> None:
    with pytest.raises(ValueError, match="there is no activation 'gleu': did you mean 'gelu'"):
        activation("gleu")
