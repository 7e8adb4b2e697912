"""Maps of image tokens for tools that read the output of a layer."""

import captum.attr
import pytest
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor

import hexavit

pytestmark = pytest.mark.usefixtures("one_thread")

NANO = hexavit.list_models("*_nano")


def built(name: str) -> tuple[hexavit.Backbone, Tensor]:
    """A model whose last map has several places, with branches that are not near 0."""
    torch.manual_seed(0)
    model = hexavit.create_model(name, img_size=64, num_classes=5).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model, torch.randn(2, 3, 64, 64)


@pytest.mark.parametrize("name", NANO)
def test_grad_cam_needs_no_reshaping(name: str) -> None:
    model, images = built(name)
    chosen = int(model(images[:1]).argmax())  # behind a mean without a norm, the CAM of an unlikely class is 0
    (cam,) = GradCAM(model, [model.cam_layer])(images[:1], [ClassifierOutputTarget(chosen)])
    assert cam.shape == (64, 64)
    assert cam.max() > cam.min()


@pytest.mark.parametrize("name", NANO)
def test_captums_layer_activation_is_the_map(name: str) -> None:
    """And its gradient times activation is not 0 where the map lies on the way to the logits."""
    model, images = built(name)
    gradients = captum.attr.LayerGradientXActivation(model, model.cam_layer).attribute(images, target=1)
    assert gradients.shape[0] == 2
    if model.stages[-1].layout == "raster":
        assert gradients.shape[1] == model.num_features
    assert gradients.abs().max() > 0


@pytest.mark.parametrize("name", NANO)
def test_each_map_is_given_once_and_is_the_feature_map(name: str) -> None:
    model, images = built(name)
    logits, seen = model(images), []
    indices = [i for i, entry in enumerate(model.feature_info) if entry["reduction"]]  # points and sets have no map
    for entry in (model.feature_info[i] for i in indices):
        layer = model.get_submodule(f"{entry['module']}.output_map")
        layer.register_forward_hook(lambda _, __, out: seen.append(out))
    torch.testing.assert_close(model(images), logits)
    kept = model.forward_intermediates(images, indices, intermediates_only=True)
    for found, expected in zip(seen, kept, strict=False):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", NANO)
def test_the_final_norm_is_called_once(name: str) -> None:
    model, images = built(name)
    calls = []
    model.head.norm.register_forward_hook(lambda *_: calls.append(1))
    model(images)
    assert len(calls) == 1
