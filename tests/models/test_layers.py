"""Layers compute what their class computes: libraries that read, replace, merge or quantise them get right results."""

import copy

import pytest
import torch
from tests.slow import few_nanos
from torch import nn
from torch.nn import functional as F

import hexavit
from hexavit import Backbone

pytestmark = pytest.mark.usefixtures("one_thread")

NANO = hexavit.list_models("*_nano")


@pytest.fixture(params=NANO)
def model(request: pytest.FixtureRequest) -> Backbone:
    """A small model in evaluation, none of whose weights is zero or one."""
    torch.manual_seed(0)
    made = hexavit.create_model(request.param, num_classes=5).eval()
    for p in made.parameters():
        if p.numel() == 1 or p.std() == 0:
            p.data += 0.2 * torch.randn_like(p)
    return made


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def linears(model: nn.Module) -> dict[str, nn.Linear]:
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}


def calls(model: nn.Module, images: torch.Tensor) -> dict[str, list[tuple[object, object]]]:
    """Inputs and outputs of every call of every module, as its hook gets them."""
    found: dict[str, list[tuple[object, object]]] = {name: [] for name, _ in model.named_modules()}

    handles = [
        module.register_forward_hook(lambda _, given, out, name=name: found[name].append((given[0], out)))
        for name, module in model.named_modules()
    ]
    model(images)
    for handle in handles:
        handle.remove()
    return found


def test_every_linear_computes_the_product_of_its_weight(model: Backbone, images: torch.Tensor) -> None:
    found = calls(model, images)
    for name, layer in linears(model).items():
        assert type(layer) is nn.Linear
        assert found[name], f"{name} is not called"
        for x, out in found[name]:
            torch.testing.assert_close(out, F.linear(x, layer.weight, layer.bias))  # type: ignore[arg-type]


def test_a_change_of_a_weight_changes_the_product(model: Backbone) -> None:
    draw = torch.Generator().manual_seed(2)
    for name, layer in linears(model).items():
        z, change = (torch.randn(n, layer.in_features, generator=draw) for n in (3, layer.out_features))
        with torch.no_grad():
            before = layer(z)
            layer.weight += change
            torch.testing.assert_close(layer(z) - before, z @ change.T, rtol=1e-4, atol=1e-4, msg=name)


def test_every_module_with_parameters_is_called(model: Backbone, images: torch.Tensor) -> None:
    found = calls(model, images)
    owners = [name for name, m in model.named_modules() if any(True for _ in m.parameters(recurse=False))]
    assert not [name for name in owners if not found[name]]


@pytest.mark.parametrize("model", few_nanos(), indirect=True)
def test_a_hook_can_replace_the_output_of_every_layer(model: Backbone, images: torch.Tensor) -> None:
    """What a layer returns is what is used: adapters and quantisers add to it."""
    with torch.no_grad():
        before = model.forward_features(images)
        for name, layer in model.named_modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                noise = torch.Generator().manual_seed(3)
                handle = layer.register_forward_hook(
                    lambda _, __, out, noise=noise: out + out.std() * torch.randn(out.shape, generator=noise)
                )
                assert name.startswith("head.") or not torch.equal(model.forward_features(images), before), name
                handle.remove()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_dynamic_quantisation(model: Backbone, images: torch.Tensor) -> None:
    with torch.no_grad():
        expected = model(images)
        quantised = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear})
        assert not linears(quantised)
        # TokenFuser norms the output of a linear that starts at 0, which magnifies rounding: 0.154.
        assert (quantised(images) - expected).abs().max() < 0.2 * expected.abs().max()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_low_rank_adapters_merge(model: Backbone, images: torch.Tensor) -> None:
    peft = pytest.importorskip("peft")
    with torch.no_grad():
        before = model(images)
        adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=list(linears(model)))).eval()
        for name, p in adapted.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(p, std=0.3, generator=torch.Generator().manual_seed(4))
        expected = adapted(images)
        assert not torch.allclose(expected, before, rtol=0.01)
        found = adapted.merge_and_unload()(images)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
