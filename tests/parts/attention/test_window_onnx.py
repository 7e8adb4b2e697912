"""Windows in a graph of dynamic batch and size, under ONNX Runtime."""

from pathlib import Path

import pytest
import torch
from tests.models.contract import build, random_images, tiny

from hexavit.models import resolve

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swin_nano", "swin_v2_nano"])
def test_right_at_other_batches_and_sizes(name: str, tmp_path: Path) -> None:
    """Padded and shifted maps, square or not, larger or smaller than the traced one."""
    model = build(tiny(resolve(name)))
    auto = torch.export.Dim.AUTO
    with torch.no_grad():
        program = torch.onnx.export(
            model, (random_images(2, 3, 64, 64),), dynamo=True, dynamic_shapes=({0: auto, 2: auto, 3: auto},)
        )
        program.save(tmp_path / "model.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
        for shape in ((3, 3, 64, 64), (1, 3, 64, 96), (2, 3, 75, 67), (1, 3, 128, 192)):
            x = random_images(*shape)
            (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
            torch.testing.assert_close(torch.from_numpy(found), model(x), rtol=2e-5, atol=2e-5)
