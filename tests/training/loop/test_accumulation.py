import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from tests.using import digits_folder, history, silent, tiny
from torch import nn

from hexavit.errors import RunError
from hexavit.inference import Run
from hexavit.processes import Processes
from hexavit.training import resume, train
from hexavit.training.loop.accumulation import Accumulation, is_out_of_memory
from hexavit.training.loop.module import Classifier
from hexavit.training.objectives.losses import CrossEntropy


def gradient(accumulation: Accumulation, objective: nn.Module, target: torch.Tensor, norm: nn.Module) -> dict[str, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), norm, nn.GELU(), nn.Linear(6, 3)).double()
    total = accumulation.gradient(
        model,
        torch.randn(7, 3, 2, 2, dtype=torch.float64),
        target,
        batch=7,
        loss_of=lambda images, labels: objective(model(images).double(), labels),
        backward=lambda loss: loss.backward(),
        seed=0,
    )
    return {
        "loss": total,
        **{name: each.grad for name, each in model.named_parameters()},
        **dict(model.named_buffers()),
    }


@pytest.mark.parametrize("micro", [1, 2, 3, 5, 7, 100])
@pytest.mark.parametrize("mixed", [False, True])
def test_parts_add_up_to_the_whole(micro: int, mixed: bool) -> None:
    torch.manual_seed(1)
    target = torch.rand(7, 3).double().softmax(1) if mixed else torch.tensor([0, 1, 2, 0, 1, 2, 0])
    objective = CrossEntropy(label_smoothing=0.1)
    objective.forward = lambda logits, target: nn.functional.cross_entropy(logits, target, label_smoothing=0.1)  # type: ignore[method-assign]
    whole = gradient(Accumulation(None, print, Processes()), objective, target, nn.LayerNorm(6))
    parts = gradient(Accumulation(micro, print, Processes()), objective, target, nn.LayerNorm(6))
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-12, atol=1e-12)


def test_processes_agree_on_the_number_of_parts() -> None:
    for world, batch, micro in [(2, 9, 4), (3, 8, 2), (2, 5, 1), (4, 4, 3), (1, 7, 3)]:
        counts = {Accumulation(micro, print, Processes(rank, world)).parts(batch) for rank in range(world)}
        assert len(counts) == 1
        (parts,) = counts
        assert all(parts <= len(Processes(rank, world).share(batch)) for rank in range(world))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    ],
)
def test_a_lack_of_memory_is_known_by_its_words(error: RuntimeError) -> None:
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


class Hungry(nn.BatchNorm1d):
    """Has memory for so many images, and counts what passes all the same, as a model's first layers do."""

    room = 3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = super().forward(x)
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return out


def test_out_of_memory_halves_until_it_fits_and_leaves_no_trace() -> None:
    told: list[str] = []
    accumulation, labels = Accumulation(None, told.append, Processes()), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    found = gradient(accumulation, CrossEntropy(), labels, Hungry(6))
    assert accumulation.micro == 3
    assert told == [
        "out of memory with 7 images at a time: from here on 3 at a time, their gradients added up, so that a step is "
        "what it was"
    ]
    plain = gradient(Accumulation(3, print, Processes()), CrossEntropy(), labels, nn.BatchNorm1d(6))
    for name, value in plain.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)
    assert int(found["2.num_batches_tracked"]) == 3


def test_where_nothing_can_be_halved_it_is_said() -> None:
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    norm = Hungry(6)
    norm.room = 0
    with pytest.raises(RunError, match="out of memory with one image at a time: take a smaller model"):
        gradient(Accumulation(None, print, Processes()), CrossEntropy(), labels, norm.eval())
    with pytest.raises(RunError, match="out of memory with 4 images at a time: go on with --resume --micro-batch 2"):
        gradient(Accumulation(None, print, Processes(0, 2)), CrossEntropy(), labels, norm)
    with pytest.raises(RuntimeError, match="shapes"):
        gradient(Accumulation(None, print, Processes()), CrossEntropy(), labels, nn.Linear(7, 1))


SETTINGS = {
    "model": "deit_nano",
    "overrides": ["stages.*.drop_path=0.0"],
    "mixup": 0.2,
    "data": str(digits_folder()),
    "save_every": 0.0,
}


def test_a_batch_norm_with_one_value_is_told_in_a_sentence() -> None:
    with pytest.raises(RunError, match="take a batch_size and a micro_batch of 2 or more"):
        gradient(Accumulation(1, print, Processes()), CrossEntropy(), torch.zeros(7).long(), nn.BatchNorm1d(6))


def test_a_training_goes_on_from_the_step_that_had_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(**SETTINGS)
    plenty = train(config, tmp_path / "plenty", console=silent()).run
    loss, steps = Classifier._loss, []

    def hungry(self: Classifier, images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        at = (self.position.epoch, self.position.done)
        if at >= (0, 1) and len(images) > 4:
            steps.append(at)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss(self, images, target)

    def interrupted(self: Classifier) -> None:
        if self.position.epoch == 1:
            raise KeyboardInterrupt
        update(self)

    update, told = Classifier._update, io.StringIO()
    with monkeypatch.context() as patched:
        patched.setattr(Classifier, "_loss", hungry)
        patched.setattr(Classifier, "_update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "scarce", console=Console(file=told, width=500))
    assert "out of memory with 8 images at a time: from here on 4 at a time" in told.getvalue()
    monkeypatch.setattr(Classifier, "_loss", hungry)
    scarce = resume(tmp_path / "scarce", console=silent()).run
    assert steps == [(0, 1)]  # neither a later step nor the resumed training tried eight again
    assert json.loads(scarce.metrics.read_text())["micro_batch"] == 4
    assert [row["micro_batch"] for row in history(scarce)] == ["4", "4"]
    _alike(scarce, plenty)


def test_a_micro_batch_may_be_chosen(tmp_path: Path) -> None:
    runs = [
        train(tiny(**{**SETTINGS, "micro_batch": micro}), tmp_path / str(micro), console=silent()).run
        for micro in (None, 3)
    ]
    _alike(*runs)


def _alike(one: Run, other: Run) -> None:
    weights, theirs = load_file(one.weights("last")), load_file(other.weights("last"))
    for name, value in weights.items():  # a model without batch norm, after six steps of AdamW with lr 1e-3
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=2e-4)
