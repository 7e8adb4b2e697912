"""Activations by name."""

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


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_same_values_as_the_formula_and_the_input_is_kept(name: str, grad: bool) -> None:
    x = torch.linspace(-8, 8, 101)
    given = x.clone()
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(activation(name)(given), FUNCTIONS[name](x))
    assert torch.equal(given, x)


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="there is no activation 'gleu': did you mean 'gelu'"):
        activation("gleu")
