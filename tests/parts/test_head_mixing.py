"""A linear over the heads of attention maps, against the linear that reads heads from the last axis."""

import copy

import pytest
import torch
from torch import Tensor, nn

from hexavit.parts.layers import HeadMixing


def reference(mixing: HeadMixing) -> nn.Linear:
    linear = nn.Linear(*mixing.weight.shape)
    linear.load_state_dict(mixing.state_dict())
    return linear


def heads_last(linear: nn.Linear, maps: Tensor) -> Tensor:
    return linear(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("shape", [(3, 4, 5, 7), (1, 2, 1, 6), (2, 1, 3, 3)])
def test_it_is_a_linear_over_the_heads(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    mixing = HeadMixing(shape[1])
    linear = reference(mixing)
    maps = torch.randn(shape, requires_grad=True)
    out, expected = mixing(maps), heads_last(linear, maps)
    torch.testing.assert_close(out, expected)
    weights = torch.randn_like(out)
    (given,) = torch.autograd.grad((out * weights).sum(), maps, retain_graph=True)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), maps, retain_graph=True)
    torch.testing.assert_close(given, wanted)
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(mixing.weight.grad, linear.weight.grad)
    torch.testing.assert_close(mixing.bias.grad, linear.bias.grad)


def test_it_starts_as_a_linear_does() -> None:
    torch.manual_seed(0)
    mixing = HeadMixing(4)
    torch.manual_seed(0)
    linear = nn.Linear(4, 4)
    assert torch.equal(mixing.weight, linear.weight)
    assert torch.equal(mixing.bias, linear.bias)


def test_it_reads_maps_of_any_memory_layout() -> None:
    mixing = HeadMixing(3)
    maps = torch.randn(2, 5, 6, 3).permute(0, 3, 1, 2)
    torch.testing.assert_close(mixing(maps), mixing(maps.contiguous()))


def test_it_is_computed_in_autocast_precision() -> None:
    mixing, maps = HeadMixing(4), torch.randn(2, 4, 5, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = mixing(maps)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), mixing(maps), rtol=2e-2, atol=2e-2)


def test_many_weights_at_once() -> None:
    """`torch.func.vmap` over the weights, as for ensembles."""
    mixings = [HeadMixing(2) for _ in range(3)]
    maps = torch.randn(2, 2, 4, 4)
    weights, _ = torch.func.stack_module_state(mixings)  # type: ignore[arg-type]
    plain = copy.deepcopy(mixings[0])
    found = torch.vmap(lambda each: torch.func.functional_call(plain, each, (maps,)))(weights)
    torch.testing.assert_close(found, torch.stack([mixing(maps) for mixing in mixings]))
