"""Adaptive pooling as torch has it, in graphs of dynamic size too, where ONNX Runtime computes it."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tests.models.contract import build, tiny
from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.models import resolve
from hexavit.parts.attention.reductions import PooledConv, PyramidPool
from hexavit.parts.pooling import averaging, bordered_average, half_even, without_borders

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("size", "bins"), [((7, 9), (7, 7)), ((56, 43), (7, 7)), ((5, 3), (7, 7)), ((14, 1), (4, 1))])
def test_matrices_average_as_torch_does(size: tuple[int, int], bins: tuple[int, int]) -> None:
    image = torch.randn(2, 3, *size)
    rows, columns = (averaging(n, length, 0, image) for n, length in zip(bins, size, strict=True))
    torch.testing.assert_close(rows @ image @ columns.mT, F.adaptive_avg_pool2d(image, bins))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("size", [(12, 9), (2, 3)])
def test_a_script_pools_any_size(size: tuple[int, int]) -> None:
    shared = nn.ModuleDict()
    part = PyramidPool(4, (1, 2, 3, 8), shared)
    shared.requires_grad_(requires_grad=False)  # which stands outside of what is traced
    with torch.no_grad():
        script = torch.jit.trace(part, torch.randn(2, 4, *size), check_trace=False)  # type: ignore[no-untyped-call]
        for other in (size, (12, 9), (2, 3), (7, 13)):
            image = torch.randn(3, 4, *other)
            torch.testing.assert_close(script(image), part(image))


def test_sizes_are_rounded_as_python_does() -> None:
    for length in range(1, 200):
        for ratio in range(1, 25):
            assert half_even(length, ratio) == max(1, round(length / ratio)), (length, ratio)


def test_borders_are_left_out() -> None:
    image, sizes = torch.randn(2, 3, 9, 7), [(4, 3), (1, 2), (1, 1)]
    bordered = torch.cat([bordered_average(image, size).flatten(2) for size in sizes], dim=2)
    plain = torch.cat([F.adaptive_avg_pool2d(image, size).flatten(2) for size in sizes], dim=2)
    torch.testing.assert_close(bordered[:, :, without_borders(sizes, image.device)], plain)


class Pyramid(nn.Module):
    """P2T's pooling with the convolutions that a stage would own."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.ModuleDict()
        self.pool = PyramidPool(4, (6, 8), self.shared)

    def forward(self, image: Tensor) -> Tensor:
        return self.pool(image)


def assert_right_in_onnx(model: nn.Module, traced: Tensor, shapes: Sequence[tuple[int, ...]], path: Path) -> None:
    """Exported with dynamic sizes, traced on one; ONNX Runtime's outputs at others."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    auto = torch.export.Dim.AUTO
    with torch.no_grad():
        exported = torch.export.export(model.eval(), (traced,), dynamic_shapes=({0: auto, 2: auto, 3: auto},))
        torch.onnx.export(exported, (), dynamo=True, verbose=False).save(path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for shape in shapes:
            images = torch.randn(shape, generator=torch.Generator().manual_seed(math.prod(shape)))
            (output,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
            expected = model(images)
            assert (torch.from_numpy(output) - expected).abs().max() <= 2e-5 * expected.abs().max(), shape


@pytest.mark.parametrize("pool", [PooledConv(4, 7), Pyramid()], ids=["pool", "pyramid"])
def test_onnx_runtime_pools_at_other_sizes(pool: nn.Module, tmp_path: Path) -> None:
    """Both levels of the pyramid are of one row where they are traced."""
    shapes = [(2, 4, 8, 8), (1, 4, 20, 33), (3, 4, 40, 17)]
    assert_right_in_onnx(pool, torch.randn(2, 4, 8, 8), shapes, tmp_path / "pool.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pvt_v2_b2_li", "p2t_tiny"])
def test_onnx_runtime_runs_at_other_sizes(name: str, tmp_path: Path) -> None:
    model = build(tiny(resolve(name), last=1))
    shapes = [(2, 3, 64, 64), (1, 3, 128, 160), (3, 3, 75, 67), (1, 3, 224, 224)]
    assert_right_in_onnx(model, torch.randn(2, 3, 64, 64), shapes, tmp_path / "model.onnx")
