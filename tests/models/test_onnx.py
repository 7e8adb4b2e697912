"""All nano models export to ONNX with gradients on and off, and ONNX Runtime gives their logits."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import hexavit
from hexavit import Backbone
from hexavit.models import resolve

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.usefixtures("one_thread")

NANO = hexavit.list_models("*_nano")


def test_exported_stage_gives_the_same_logits(tmp_path: Path) -> None:
    # The attention kernel of a bias that learns differs with gradients.
    architecture = resolve("swin_nano", num_classes=5)
    assert_exported(Backbone(replace(architecture, stages=architecture.stages[:1])), True, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", NANO)
def test_exported_model_gives_the_same_logits(name: str, grad: bool, tmp_path: Path) -> None:
    assert_exported(hexavit.create_model(name, num_classes=5), grad, tmp_path)


def assert_exported(model: Backbone, grad: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    for parameter in model.eval().parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.set_grad_enabled(grad):
        program = torch.onnx.export(
            model, (images[:2],), dynamo=True, verbose=False, dynamic_shapes=({0: torch.export.Dim.AUTO},)
        )
    assert program is not None
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), model(images), rtol=1e-4, atol=2e-5)
