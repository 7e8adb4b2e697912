from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tests.killing import in_processes
from torch import nn

import hexavit
from hexavit.processes import Processes
from hexavit.training.loop.sync_batch_norm import SyncedBatchNorm, sync_batch_norms

KINDS = {"plain": (), "no_affine": ("affine",), "cumulative": ("momentum",)}


def made(kind: str, dtype: torch.dtype) -> tuple[nn.Module, torch.Tensor]:
    """A network with batch norms, and nine images."""
    torch.manual_seed(0)
    changed: dict[str, dict[str, Any]] = {"no_affine": {"affine": False}, "cumulative": {"momentum": None}}
    norms = [nn.BatchNorm2d(4, **changed.get(kind, {})), nn.BatchNorm1d(5, **changed.get(kind, {}))]
    head = (nn.Flatten(), nn.Linear(4 * 36, 5), norms[1], nn.Linear(5, 3))
    model = nn.Sequential(nn.Conv2d(3, 4, 3), norms[0], nn.GELU(), *head).to(dtype)
    return model, torch.randn(9, 3, 8, 8, dtype=dtype) * 3 + 100


def learnt(model: nn.Module, images: torch.Tensor, share: range, count: int) -> dict[str, torch.Tensor]:
    """After two passes: the gradients, that of the images among them, and the buffers."""
    own = images[share.start : share.stop].clone().requires_grad_()
    for _ in range(2):
        (model(own) ** 2).sum().div(count).backward()
    found = {f"{name}.grad": each.grad for name, each in model.named_parameters()}
    return {**found, "images.grad": own.grad, **dict(model.named_buffers())}  # type: ignore[dict-item]


def one_of(rank: int, world: int, folder: Path, kind: str, dtype: torch.dtype, nets: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    model, images = made(kind, dtype) if nets == "small" else cvt(dtype)
    found = learnt(sync_batch_norms(model, "cpu"), images, Processes(rank, world).share(9), 9)
    for name, value in found.items():
        if name.endswith(".grad") and name != "images.grad":
            dist.all_reduce(value)
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


def cvt(dtype: torch.dtype) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model = hexavit.create_model("cvt_nano", num_classes=3, img_size=32, overrides=["stages.*.depth=1"])
    return model.to(dtype), torch.randn(9, 3, 32, 32, dtype=dtype)


# In float32 the two ways of adding up differ by rounding; inputs of mean 100 make it visible.
TOLERANCE = {torch.float64: {"rtol": 1e-9, "atol": 1e-9}, torch.float32: {"rtol": 2e-3, "atol": 2e-3}}


@pytest.mark.parametrize(
    ("nets", "kind", "dtype", "world"),
    [
        ("small", "plain", torch.float64, 2),
        ("small", "plain", torch.float32, 2),
        ("small", "plain", torch.float64, 4),
        ("small", "no_affine", torch.float64, 2),
        ("small", "cumulative", torch.float64, 2),
        ("cvt", "plain", torch.float64, 2),
    ],
)
def test_processes_have_the_gradients_of_one(
    tmp_path: Path, nets: str, kind: str, dtype: torch.dtype, world: int
) -> None:
    calls = [(one_of, rank, world, tmp_path, kind, dtype, nets) for rank in range(world)]
    assert in_processes(calls) == [0] * world  # shares of 4 and 5, or of 2, 2, 2 and 3
    model, images = made(kind, dtype) if nets == "small" else cvt(dtype)
    alone = learnt(model, images, range(9), 9)
    together = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(world)]
    images_grad = torch.cat([each.pop("images.grad") for each in together])
    torch.testing.assert_close(images_grad, alone.pop("images.grad"), **TOLERANCE[dtype])
    for found in together:
        assert list(found) == list(alone)
        for name, value in found.items():
            torch.testing.assert_close(value, alone[name], **TOLERANCE[dtype], msg=lambda text, name=name: name + text)


def test_it_keeps_names_tensors_and_modes() -> None:
    model = hexavit.create_model("cvt_nano", num_classes=3, img_size=32).eval()
    before = {name: value.data_ptr() for name, value in model.state_dict().items()}
    images = torch.randn(2, 3, 32, 32)
    expected = model(images)
    assert sync_batch_norms(model, "cpu") is model
    assert {name: value.data_ptr() for name, value in model.state_dict().items()} == before
    norms = [each for each in model.modules() if isinstance(each, nn.BatchNorm2d)]
    assert norms
    assert all(isinstance(each, SyncedBatchNorm) and not each.training for each in norms)
    assert torch.equal(model(images), expected)
    assert isinstance(sync_batch_norms(nn.BatchNorm1d(3), "cpu"), SyncedBatchNorm)


def test_a_single_process_has_plain_batch_norm() -> None:
    plain, images = made("plain", torch.float32)
    synced = sync_batch_norms(made("plain", torch.float32)[0], "cpu")
    assert torch.equal(plain(images), synced(images))
    with pytest.raises(ValueError, match="input of at least two dimensions"):
        synced[1](torch.zeros(4))  # type: ignore[index]


def test_accelerators_have_the_batch_norm_of_pytorch() -> None:
    model = hexavit.create_model("cvt_nano", num_classes=3, img_size=32)
    state = model.state_dict()
    synced = sync_batch_norms(model, "cuda")
    norms = [each for each in synced.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert {type(each) for each in norms} == {nn.SyncBatchNorm}
    assert {name: value.data_ptr() for name, value in synced.state_dict().items()} == {
        name: value.data_ptr() for name, value in state.items()
    }
