"""How tables are resized, against other implementations of each method."""

import numpy as np
import pytest
import torch
from PIL import Image

from hexavit.parts.layers import resize_table


@pytest.fixture
def table() -> torch.Tensor:
    return torch.randn(1, 2 + 12 * 10, 3, generator=torch.Generator().manual_seed(0))


def pillow(table: torch.Tensor, new: tuple[int, int]) -> torch.Tensor:
    """Pillow's bicubic filter, which widens with the scale: antialiasing."""
    image = table[0, 2:].unflatten(0, (12, 10)).permute(2, 0, 1).numpy()
    planes = [Image.fromarray(np.ascontiguousarray(p)).resize(new[::-1], Image.Resampling.BICUBIC) for p in image]
    return torch.from_numpy(np.stack([np.asarray(p) for p in planes])).flatten(1).T[None]


def cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -0.75, as PyTorch, OpenCV and the authors of DeiT have it."""
    d, a = np.abs(distance), -0.75
    near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def weights(old: int, new: int, method: str) -> np.ndarray:
    """The matrix (new, old) of one axis, without antialiasing, borders repeated."""
    matrix = np.zeros((new, old))
    for i in range(new):
        at = i * (old - 1) / (new - 1) if method == "bilinear" else (i + 0.5) * old / new - 0.5
        if method != "bicubic_plain":
            at = max(at, 0.0)
        for j in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
            weight = cubic(np.array(at - j)) if method == "bicubic_plain" else max(0.0, 1 - abs(at - j))
            matrix[i, min(max(j, 0), old - 1)] += weight
    return matrix


@pytest.mark.parametrize("new", [(5, 4), (20, 17), (12, 7)])
@pytest.mark.parametrize("method", ["bilinear", "bilinear_plain", "bicubic_plain"])
def test_no_antialiasing(table: torch.Tensor, method: str, new: tuple[int, int]) -> None:
    image = table[0, 2:].unflatten(0, (12, 10)).double().numpy()
    expected = np.einsum("ih,hwc,jw->ijc", weights(12, new[0], method), image, weights(10, new[1], method))
    found = resize_table(table, (12, 10), new, 2, method)
    assert torch.equal(found[:, :2], table[:, :2])
    torch.testing.assert_close(found[0, 2:].double(), torch.from_numpy(expected).flatten(0, 1), rtol=0, atol=2e-5)


@pytest.mark.parametrize("new", [(5, 4), (20, 17)])
def test_bicubic_has_antialiasing(table: torch.Tensor, new: tuple[int, int]) -> None:
    found = resize_table(table, (12, 10), new, 2, "bicubic")
    torch.testing.assert_close(found[:, 2:], pillow(table, new), rtol=0, atol=2e-5)
