"""Tensors that a hook receives do not change: no operation is in place on an input or output of a module."""

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from tests.slow import few_nanos

import hexavit
from hexavit import Backbone, Tokens
from hexavit.parts import softmax_path

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=hexavit.list_models("*_nano"))
def model(request: pytest.FixtureRequest) -> Backbone:
    torch.manual_seed(0)
    return hexavit.create_model(request.param, num_classes=5).eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 72, 60, generator=torch.Generator().manual_seed(1))


def tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, Tokens):
        yield value.sequence


@pytest.mark.parametrize("grad", [True, False])
def test_activations_are_not_overwritten(model: Backbone, images: torch.Tensor, grad: bool) -> None:
    kept: list[tuple[str, torch.Tensor, torch.Tensor]] = []

    def keep(name: str, *values: Any) -> None:
        kept.extend((name, tensor, tensor.detach().clone()) for tensor in tensors(values))

    for name, module in model.named_modules():
        module.register_forward_hook(lambda _, given, out, name=name: keep(name, given, out))
    with torch.set_grad_enabled(grad):
        model(images)
    assert kept
    assert not [name for name, tensor, before in kept if not torch.equal(tensor, before)]


def test_a_hook_sees_the_same_values_with_and_without_gradients(model: Backbone, images: torch.Tensor) -> None:
    seen: list[list[torch.Tensor]] = []
    for grad in (True, False):
        outputs: list[torch.Tensor] = []
        handles = [
            module.register_forward_hook(lambda _, __, out, outputs=outputs: outputs.extend(tensors(out)))
            for module in model.modules()
        ]
        with torch.set_grad_enabled(grad):
            model(images)
        for handle in handles:
            handle.remove()
        seen.append(outputs)
    assert len(seen[0]) == len(seen[1])
    for one, other in zip(*seen, strict=True):
        torch.testing.assert_close(one.detach(), other)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("model", few_nanos(), indirect=True)
def test_a_script_is_traced_in_the_default_gradient_mode(model: Backbone, images: torch.Tensor) -> None:
    script = torch.jit.trace(model, images)  # type: ignore[no-untyped-call]
    for given in (images, torch.cat((images, images))):  # the batch is not fixed
        torch.testing.assert_close(script(given), model(given))


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize("grad", [True, False])
def test_models_side_by_side(model: Backbone, images: torch.Tensor, grad: bool) -> None:
    """As `torch.func` runs an ensemble; with gradients on the softmax path, as `softmax_path` says.

    In float64: the logits of rest_nano alone are 2.1e-5 from these in float32.
    """
    model, images = model.double(), images.double()
    models = [model, copy.deepcopy(model)]
    for p in models[1].parameters():
        p.data *= 1.1
    parameters, buffers = torch.func.stack_module_state(models)  # type: ignore[arg-type]

    def run(one: dict[str, torch.Tensor], held: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(model, (one, held), (images,))  # type: ignore[no-any-return]

    with torch.set_grad_enabled(grad), softmax_path(model) if grad else nullcontext():
        found = torch.func.vmap(run)(parameters, buffers)
    with torch.no_grad():
        for logits, each in zip(found, models, strict=True):
            torch.testing.assert_close(logits, each(images), rtol=1e-10, atol=1e-12)


def test_second_derivatives_on_the_softmax_path(model: Backbone) -> None:
    """The fused attention kernels have none; gradient penalties and influence functions need them."""
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    with softmax_path(model):
        (gradient,) = torch.autograd.grad(model(images).square().sum(), images, create_graph=True)
        gradient.square().sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
    assert images.grad.abs().max() > 0
