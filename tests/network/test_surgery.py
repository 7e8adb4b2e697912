"""What stays in a changed model keeps its state."""

import pytest
import torch
from torch import nn

import hexavit
from hexavit.errors import ArchitectureError
from hexavit.network.backbone import FeatureBackbone

pytestmark = pytest.mark.usefixtures("one_thread")

NANO = hexavit.list_models("*_nano")
NO_POOL = {"cait_nano"}  # class attention needs the class token


def prepared(name: str) -> hexavit.Backbone:
    """A model in evaluation mode, in float64, half frozen, with checkpointing, a norm in training mode, a hook."""
    torch.manual_seed(0)
    model = hexavit.create_model(name, img_size=32, num_classes=5).double().eval()
    for number, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(number % 2 == 0)
    model.set_grad_checkpointing()
    block = next(stage for stage in model.stages if len(stage.blocks)).blocks[0]
    block.attention_residual.train()
    block.branches[-1].part.register_forward_hook(lambda *_: None)
    return model


def state(model: nn.Module) -> dict[str, object]:
    """Everything that surgery must leave alone, by path."""
    found: dict[str, object] = {}
    for name, module in model.named_modules():
        found[f"{name}:mode"] = module.training, len(module._forward_hooks), getattr(module, "grad_checkpointing", None)
    for name, parameter in model.named_parameters():
        found[name] = parameter.dtype, parameter.device, parameter.requires_grad
    for name, buffer in model.named_buffers():
        found[name] = buffer.dtype if buffer.is_floating_point() else None
    return found


def assert_kept(before: dict[str, object], model: nn.Module) -> None:
    after = {name: value for name, value in state(model).items() if not name.startswith(("head.fc", ":"))}
    assert {name: before[name] for name in after if name in before} == {n: v for n, v in after.items() if n in before}
    assert not [name for name in after if name not in before and not name.startswith("head.")]


@pytest.mark.parametrize("name", NANO)
def test_another_number_of_classes(name: str) -> None:
    model = prepared(name)
    before, weights = state(model), model.state_dict()
    model.reset_classifier(3)
    assert_kept(before, model)
    assert not model.training
    assert model.get_classifier().weight.dtype == torch.float64
    assert model.get_classifier().weight.requires_grad
    assert not model.get_classifier().training
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items() if not k.startswith("head.fc"))
    assert model(torch.randn(2, 3, 32, 32, dtype=torch.float64)).shape == (2, 3)


@pytest.mark.parametrize("name", [name for name in NANO if name not in NO_POOL])
def test_another_pooling(name: str) -> None:
    model = prepared(name)
    before, modules = state(model), dict(model.named_modules())
    model.reset_classifier(4, "avg")
    assert_kept(before, model)
    kept = [n for n, m in model.named_modules() if ".blocks." in n and m is not modules[n]]
    assert not kept, "blocks are the modules that they were"
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    next(stage for stage in model.stages if len(stage.blocks)).blocks[0].attention_residual.eval()
    torch.testing.assert_close(model(images)[:1], model(images[:1]))  # an image does not depend on its batch


@pytest.mark.parametrize("name", NANO)
def test_another_size(name: str) -> None:
    model = prepared(name)
    before = state(model)
    model.set_input_size(64)
    assert_kept(before, model)
    assert model(torch.randn(1, 3, 64, 64, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("name", NANO)
def test_features_only(name: str) -> None:
    model = prepared(name)
    before = state(model)
    backbone = FeatureBackbone(model, 1)
    assert not backbone.training
    assert_kept(before, backbone.model)
    assert backbone.default_cfg is backbone.pretrained_cfg


@pytest.mark.parametrize("name", NANO)
def test_a_classifier_of_ones_own(name: str) -> None:
    model = hexavit.create_model(name, num_classes=5)
    mine = nn.Sequential(nn.Linear(model.num_features, 8), nn.ReLU(), nn.Linear(8, 3))
    model.set_classifier(mine)
    images = torch.randn(2, 3, *model.architecture.img_size)
    out = model(images)
    assert all(each.shape[-1] == 3 for each in (out if isinstance(out, tuple) else (out,)))
    assert model.num_classes == 3
    assert model.get_classifier() is mine
    with pytest.raises(ArchitectureError, match="classifiers, not 3"):
        model.set_classifier(mine, mine, mine)


def test_a_head_that_does_not_pool_is_named() -> None:
    model = hexavit.create_model("cvt_nano").eval()
    model.head = nn.Linear(128, 3)
    with pytest.raises(ArchitectureError, match=r"which Linear does not: .* call model.set_classifier\(module\)"):
        model(torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize("name", ["deit_nano", "lvvit_nano"])
def test_a_pair_in_training_only_while_it_is_enabled(name: str) -> None:
    model = hexavit.create_model(name, overrides=["stages.*.drop_path=0.0"])
    images = torch.randn(2, 3, 32, 32)
    assert isinstance(model(images), tuple)
    model.set_distilled_training(False)
    single = model(images)
    assert single.shape == (2, 1000)
    single.sum().backward()
    assert model.head.fc2.weight.grad.abs().max() > 0
    model.set_distilled_training()
    assert isinstance(model(images), tuple)
    with pytest.raises(ArchitectureError, match="has one classifier"):
        hexavit.create_model("cvt_nano").set_distilled_training()


@pytest.mark.parametrize("name", NANO)
def test_no_pooling_gives_the_features(name: str) -> None:
    model = hexavit.create_model(name).eval()
    images = torch.randn(2, 3, *model.architecture.img_size)
    model.reset_classifier(0, "")
    torch.testing.assert_close(model(images), model.forward_features(images))
    with pytest.raises(ArchitectureError, match="use num_classes=0, not 4"):
        model.reset_classifier(4, "")
    model.reset_classifier(4)
    assert model(images).shape == (2, 4)


@pytest.mark.parametrize("name", NANO)
def test_features_as_a_map(name: str) -> None:
    model = hexavit.create_model(name).eval()
    images = torch.randn(2, 3, *model.architecture.img_size)
    if model.stages[-1].layout != "raster":
        with pytest.raises(hexavit.HexavitError, match="has no map: use output_fmt='NLC'"):
            model.forward_features(images, output_fmt="NCHW")
        return
    features, found = model.forward_features(images), model.forward_features(images, output_fmt="NCHW")
    assert found.shape == (2, model.num_features, *model.grid_size)
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), features[:, model.num_extra_tokens :])
