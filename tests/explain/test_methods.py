"""Attributions by one name for each method, faithfulness curves, and pictures."""

import importlib
import re

import numpy as np
import pytest
import torch
from PIL import Image

import hexavit
from hexavit import Backbone, HexavitError
from hexavit.explain import METHODS, attribute, deletion_insertion, explain_image, overlay, page, target_layer
from hexavit.images.preprocess import InputSpec

SPEC = InputSpec((32, 32), 3, (0.5,) * 3, (0.25,) * 3, "bilinear", 1.0, "center")


@pytest.fixture
def model() -> Backbone:
    torch.manual_seed(0)
    return hexavit.create_model("pvt_nano", num_classes=4, img_size=32).eval()


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_map_of_the_image(model: Backbone, image: torch.Tensor, method: str) -> None:
    found = attribute(model, image, method, target=2)
    assert found.pixels().shape == (32, 32)
    assert np.isfinite(found.cells).all()
    assert found.target == (2 if METHODS[method].of_class else None)
    assert not any(module._forward_hooks for module in model.modules())


def test_integrated_gradients_sum_to_the_change_of_the_logit(model: Backbone, image: torch.Tensor) -> None:
    """The axiom of completeness (Sundararajan et al., 2017), up to the error of 32 steps."""
    found = attribute(model, image, "integrated_gradients", target=1)
    with torch.no_grad():
        change = (model(image[None]) - model(torch.zeros_like(image)[None]))[0, 1]
    assert float(found.cells.sum()) == pytest.approx(float(change), rel=0.05, abs=1e-3)


def test_the_target_layer_is_a_map_of_each_stage(model: Backbone, image: torch.Tensor) -> None:
    shapes = []
    for stage in (0, 1, None):
        target_layer(model, stage).register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[2:])))
    model(image[None])
    assert shapes[:2] == [(8, 8), (4, 4)]
    assert target_layer(model) is model.cam_layer


def test_curves_run_from_the_image_to_nothing_and_back(model: Backbone, image: torch.Tensor) -> None:
    found = attribute(model, image, "gradcam", target=1)
    deletion, insertion = deletion_insertion(model, image, found, steps=4)
    with torch.no_grad():
        whole, nothing = model(torch.stack([image, torch.zeros_like(image)])).softmax(dim=1)[:, 1].tolist()
    np.testing.assert_allclose(deletion.probabilities[[0, -1]], [whole, nothing], rtol=1e-4)
    assert insertion.probabilities[-1] == pytest.approx(whole, rel=1e-4)
    heights = deletion.probabilities
    assert deletion.area == pytest.approx((heights[1:] + heights[:-1]).sum() / 8, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "gradcamm"}, "there is no method 'gradcamm': did you mean"),
        ({"target": 4}, "there is no class 4: there are 4, from 0"),
        ({"stage": 9}, "there is no stage 9"),
    ],
)
def test_errors_are_one_sentence(
    model: Backbone, image: torch.Tensor, options: dict[str, object], message: str
) -> None:
    with pytest.raises(HexavitError, match=message):
        attribute(model, image, **options)  # type: ignore[arg-type]


def test_a_missing_library_is_named(model: Backbone, image: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(HexavitError, match=re.escape("needs pytorch_grad_cam: pip install 'hexavit[explain]'")):
        attribute(model, image, "gradcam")


def test_the_brightest_place_is_yellow() -> None:
    values = np.zeros((8, 8), np.float32)
    values[2, 5] = 1
    colours = np.asarray(overlay(Image.new("RGB", (8, 8), "black"), values, strength=1.0)).astype(int)
    assert colours[2, 5, 0] > 200  # red and green
    assert colours[2, 5, 2] < 80
    assert colours[0, 0, 0] < 100


def test_a_page_has_everything_inside(model: Backbone, image: torch.Tensor) -> None:
    found = explain_image(
        model, image, SPEC, name="<cat>", methods=("attention", "rollout"), classes=("a", "b", "c", "d<")
    )
    assert [name for name, _ in found.maps][-1] == "rollout"
    assert len(found.maps) == 1 + len(model.stages)
    text = page("cats", [found], ["note"])
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    assert "http" not in text
    assert "&lt;cat&gt;" in text
