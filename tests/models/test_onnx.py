"""All nano models export to ONNX with gradients on and off, and ONNX Runtime gives their logits."""

from pathlib import Path

import pytest
import torch

import hexavit

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.usefixtures("one_thread")

NANO = hexavit.list_models("*_nano")
QUICK = ("swin_nano",)  # a bias that learns, whose attention kernel differs with gradients


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NANO])
def test_exported_model_gives_the_same_logits(name: str, grad: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = hexavit.create_model(name, num_classes=5).eval()
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
