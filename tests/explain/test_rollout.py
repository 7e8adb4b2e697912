"""Rollout against products of plain matrices."""

import numpy as np
import pytest
import torch
from torch import Tensor

import hexavit
from hexavit import Architecture, Backbone, Part, Stage, record_attention
from hexavit.explain import gradient_rollout, rollout
from hexavit.explain.rollout import resized


def recorded(model: Backbone, image: Tensor) -> list[np.ndarray]:
    """The maps of each block in the mean over heads, in the order of the pass."""
    with torch.no_grad(), record_attention(model) as maps:
        model(image[None])
    return [found[0].mean(dim=1).double().numpy() for found in maps.values()]


def test_a_vit_is_abnar_and_zuidemas_product() -> None:
    model = hexavit.create_model("deit_nano", overrides=["head=class_token"]).eval()
    image = torch.randn(3, *model.architecture.img_size)
    product = np.eye(17)
    for (weights,) in recorded(model, image):
        product = (0.5 * np.eye(17) + 0.5 * weights) @ product
    expected = product[0, 1:].reshape(4, 4)
    np.testing.assert_allclose(rollout(model, image).numpy(), expected / expected.sum(), rtol=1e-4)


def test_windows_pooled_keys_and_a_pyramid() -> None:
    """Two stages, of 4 x 4 tokens in windows of 2 and of 2 x 2 tokens with one pooled key."""
    tokens = Part("conv", kernel=2, stride=2, padding=0)
    stages = (
        Stage(8, 1, tokens=tokens, attention=Part("window", heads=2, window=2)),
        Stage(8, 1, tokens=tokens, attention=Part("spatial_reduction", heads=2, sr_ratio=2)),
    )
    torch.manual_seed(0)
    model = Backbone(Architecture("tiny", stages, Part("pool"), num_classes=2, img_size=(8, 8))).eval()
    image = torch.randn(3, 8, 8)
    windows, _ = recorded(model, image)
    first = np.zeros((16, 16))
    for number, weights in enumerate(windows):
        row, column = 2 * (number // 2), 2 * (number % 2)
        cells = [4 * r + c for r in (row, row + 1) for c in (column, column + 1)]
        first[np.ix_(cells, cells)] = weights
    second = np.full((4, 4), 1 / 4)  # the only key stands for all four cells
    merging = np.kron(np.eye(2), np.kron(np.ones((1, 2)), np.kron(np.eye(2), np.ones((1, 2))))) / 4
    chain = (np.eye(4) + second) / 2 @ merging @ (np.eye(16) + first) / 2
    expected = np.full(4, 1 / 4) @ chain
    np.testing.assert_allclose(rollout(model, image).numpy(), expected.reshape(4, 4), rtol=1e-4)


def test_gradients_are_those_of_the_weights() -> None:
    """Against derivatives by a summand of the attention weights, on the explicit softmax."""
    stage = Stage(8, 1, tokens=Part("conv", kernel=2, stride=2, padding=0), attention=Part("global", heads=2))
    torch.manual_seed(0)
    model = Backbone(Architecture("tiny", (stage,), Part("pool"), num_classes=3, img_size=(8, 8))).eval()
    image, part = torch.randn(3, 8, 8), model.stages[0].blocks[0].attention
    found = gradient_rollout(model, image, target=2)
    summand, kept = torch.zeros(1, 2, 16, 16, requires_grad=True), []
    part.after_softmax = lambda weights: kept.append(weights.detach()) or weights + summand
    with hexavit.parts.softmax_path(model):
        (slope,) = torch.autograd.grad(model(image[None])[0, 2], summand)
    relevant = (kept[0] * slope).clamp(min=0)[0].mean(dim=0).double().numpy()
    expected = np.full(16, 1 / 16) @ (np.eye(16) / 2 + relevant / relevant.sum(axis=1).max() / 2)
    np.testing.assert_allclose(found.numpy().ravel(), expected / expected.sum(), rtol=1e-4)


FAMILIES = ("cvt", "cait", "swin", "msg", "t2t_vit", "mvit_v2", "ps_vit", "tokenlearner", "dwnet", "hrt", "rest", "tnt")


@pytest.mark.parametrize("name", [f"{family}_nano" for family in FAMILIES])
def test_rollout_is_a_share_of_each_cell_in_every_kind_of_system(name: str) -> None:
    model = hexavit.create_model(name).eval()
    image = torch.randn(model.in_chans, *model.architecture.img_size)
    for found in (rollout(model, image), gradient_rollout(model, image, target=1)):
        assert found.min() >= 0
        assert float(found.sum()) == pytest.approx(1, abs=1e-4)


def test_a_grid_is_resized_by_area() -> None:
    grid = torch.tensor([[6.0, 12.0]])
    torch.testing.assert_close(resized(grid, (1, 3)), torch.tensor([[4.0, 6.0, 8.0]]))
    torch.testing.assert_close(resized(grid, (2, 1)), torch.tensor([[9.0], [9.0]]))
