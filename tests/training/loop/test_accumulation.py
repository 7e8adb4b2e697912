from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from tests.using import digits_folder, silent, tiny
from torch import nn

from hexavit.errors import RunError
from hexavit.inference import Run
from hexavit.processes import Processes
from hexavit.training import resume, train
from hexavit.training.loop import loop
from hexavit.training.loop.accumulation import accumulate_gradients, count_micro_batches, is_out_of_memory

LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0])


def gradients(micro: int | None, target: torch.Tensor, norm: nn.Module) -> dict[str, Any]:
    """The loss, gradients and buffers after seven images."""
    torch.manual_seed(0)
    fabric = Fabric(accelerator="cpu", devices=1, precision="64-true")
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), norm, nn.GELU(), nn.Linear(6, 3)).double()
    module = fabric.setup(model)
    total = accumulate_gradients(
        fabric,
        module,
        torch.randn(7, 3, 2, 2, dtype=torch.float64),
        target,
        loss_of=lambda images, labels: nn.functional.cross_entropy(module(images), labels, label_smoothing=0.1),
        batch_size=7,
        micro_batch=micro,
        processes=Processes(),
    )
    grads = {name: each.grad for name, each in model.named_parameters()}
    return {"loss": total, **grads, **dict(model.named_buffers())}


@pytest.mark.parametrize("micro", [1, 2, 3, 5, 7, 100])
@pytest.mark.parametrize("mixed", [False, True])
def test_micro_batches_add_up_to_the_whole(micro: int, mixed: bool) -> None:
    torch.manual_seed(1)
    target = torch.rand(7, 3).double().softmax(1) if mixed else LABELS
    whole = gradients(None, target, nn.LayerNorm(6))
    parts = gradients(micro, target, nn.LayerNorm(6))
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-12, atol=1e-12)


def test_processes_agree_on_the_number_of_micro_batches() -> None:
    for world, batch, micro in [(2, 9, 4), (3, 8, 2), (2, 5, 1), (4, 4, 3), (1, 7, 3)]:
        counts = {count_micro_batches(batch, micro, Processes(rank, world)) for rank in range(world)}
        assert len(counts) == 1
        (count,) = counts
        assert all(count <= len(Processes(rank, world).share(batch)) for rank in range(world))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    ],
)
def test_out_of_memory_is_recognised(error: RuntimeError) -> None:
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


class OutOfMemory(nn.LayerNorm):
    """Has memory for so many images."""

    limit = 3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(x)


def test_out_of_memory_names_the_micro_batch() -> None:
    with pytest.raises(RunError, match="out of memory with 7 images at a time: continue with --resume --micro-batch 3"):
        gradients(None, LABELS, OutOfMemory(6))
    with pytest.raises(RunError, match="out of memory with 4 images at a time: continue with --resume --micro-batch 2"):
        gradients(5, LABELS, OutOfMemory(6))
    gradients(3, LABELS, OutOfMemory(6))
    norm = OutOfMemory(6)
    norm.limit = 0
    with pytest.raises(RunError, match="out of memory with one image at a time: use a smaller model"):
        gradients(1, LABELS, norm)
    with pytest.raises(RuntimeError, match="shapes"):
        gradients(None, LABELS, nn.Linear(7, 1))


def test_a_batch_norm_with_one_value_is_explained() -> None:
    with pytest.raises(RunError, match="set batch_size and micro_batch to 2 or more"):
        gradients(1, LABELS, nn.BatchNorm1d(6))


SETTINGS = {
    "model": "deit_nano",
    "overrides": ["stages.*.drop_path=0.0"],
    "mixup": 0.2,
    "data": str(digits_folder()),
    "save_every": 0.0,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tiny(**SETTINGS), tmp_path_factory.mktemp("runs") / "whole", console=silent()).run


def test_a_run_continues_from_the_step_without_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Run
) -> None:
    loss = loop.TrainingLoop.loss

    def hungry(self: loop.TrainingLoop, images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if self.steps >= 1 and len(images) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss(self, images, target)

    monkeypatch.setattr(loop.TrainingLoop, "loss", hungry)
    with pytest.raises(RunError, match="continue with --resume --micro-batch 4"):
        train(tiny(**SETTINGS), tmp_path / "run", console=silent())
    run = resume(tmp_path / "run", given={"micro_batch": 4}, console=silent()).run
    assert "micro_batch: 4\n" in run.config.read_text()
    assert_alike(run, whole)


def test_a_micro_batch_gives_the_same_result(tmp_path: Path, whole: Run) -> None:
    assert_alike(train(tiny(**SETTINGS, micro_batch=3), tmp_path / "run", console=silent()).run, whole)


def assert_alike(one: Run, other: Run) -> None:
    weights, theirs = load_file(one.weights("last")), load_file(other.weights("last"))
    for name, value in weights.items():  # a model without batch norm, after six steps of AdamW with lr 1e-3
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=2e-4)
