"""Windows in a graph of dynamic batch and size, under ONNX Runtime; cosine attention and small maps for engines."""

from pathlib import Path

import pytest
import torch
from tests.models.contract import build, random_images, tiny
from torch import Tensor, nn

from hexavit.models import resolve
from hexavit.parts import Tokens, softmax_path
from hexavit.parts.attention import GlobalAttention, WindowAttention

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


def test_cosine_attention_is_right_in_openvino(tmp_path: Path) -> None:
    """It took a factor of each key for the scale of the attention: the output was empty, or the process crashed."""
    openvino = pytest.importorskip("openvino")

    class OnMap(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = WindowAttention(8, (4, 4), heads=2, window=2, cosine=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.part(Tokens(x, (4, 4))).image

    torch.manual_seed(0)
    model, path = OnMap().eval(), tmp_path / "model.onnx"
    with torch.no_grad(), softmax_path(model):
        given = (torch.randn(2, 16, 8),)
        program = torch.export.export(model, given, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
        torch.onnx.export(program, (), path, dynamo=True, verbose=False)
        compiled = openvino.compile_model(openvino.convert_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        for batch in (2, 3):
            x = torch.randn(batch, 16, 8)
            found = torch.from_numpy(compiled([x.numpy()])[0].copy())
            torch.testing.assert_close(found, model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("side", "axes"), [(4, 3), (5, 4)])
def test_small_maps_have_three_axes(side: int, axes: int) -> None:
    """Maps of at most 16 keys, in a graph for engines, with the same values for any batch."""

    class OnMap(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = GlobalAttention(8, heads=2)

        def forward(self, x: Tensor) -> Tensor:
            return self.part(Tokens(x, (side, side))).image

    torch.manual_seed(0)
    model = OnMap().eval()
    with torch.no_grad(), softmax_path(model):
        given = (torch.randn(2, side * side, 8),)
        program = torch.export.export(model, given, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
        maps = [node for node in program.graph.nodes if node.target is torch.ops.aten.softmax.int]
        assert [node.meta["val"].ndim for node in maps] == [axes]
        for batch in (2, 3):
            x = torch.randn(batch, side * side, 8)
            torch.testing.assert_close(program.module()(x), model(x), rtol=1e-5, atol=1e-6)
