"""The example trains: RetinaNet and Mask R-CNN on scenes of digits, at a size for a test."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

pytestmark = pytest.mark.usefixtures("one_thread")
FILE = Path(__file__).parents[2] / "examples" / "detection.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("detection_example", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_scenes_hold_what_they_say(example: ModuleType) -> None:
    (images, targets) = next(example.scenes(batch=3, side=64))
    assert [tuple(image.shape) for image in images] == [(3, 64, 64)] * 3
    for target in targets:
        assert target["boxes"].shape == (4, 4)
        assert target["masks"].shape == (4, 64, 64)
        assert ((target["labels"] >= 1) & (target["labels"] <= 10)).all()
        for (left, top, right, bottom), mask in zip(target["boxes"].long(), target["masks"], strict=True):
            assert mask.sum() == mask[top:bottom, left:right].sum() > 0
            assert mask[top].any()
            assert mask[bottom - 1].any()


@pytest.mark.parametrize("kind", ["retinanet", "mask_rcnn"])
def test_a_training_step_reaches_every_weight(example: ModuleType, kind: str) -> None:
    net, losses = example.train(kind, "cvt_nano", steps=1, batch=2, side=64)
    assert all(torch.isfinite(torch.tensor(losses)))
    without = [name for name, parameter in net.named_parameters() if parameter.requires_grad and parameter.grad is None]
    assert not without
    found = net.eval()([torch.rand(3, 64, 64)])
    assert {"boxes", "labels", "scores"} <= found[0].keys()
    assert ("masks" in found[0]) == (kind == "mask_rcnn")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["retinanet", "mask_rcnn"])
def test_cvt_13_learns(example: ModuleType, kind: str) -> None:
    _, losses = example.train(kind, "cvt_13", steps=12, batch=2, side=96)
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
