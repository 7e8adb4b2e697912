"""Metrics of a classifier, against sums in NumPy."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.killing import in_processes

from hexavit.evaluation.metrics import MeanLoss, accuracies, figure


def test_the_mean_loss_weights_each_batch_by_its_size() -> None:
    metric = MeanLoss()
    for loss, samples in ((1, 8), (1, 8), (1, 8), (5, 3)):
        metric.update(torch.tensor(float(loss)), samples)
    assert metric.compute().item() == pytest.approx((3 * 8 + 5 * 3) / 27, abs=1e-7)


def test_a_loss_that_is_not_a_number_stays_visible() -> None:
    metric = MeanLoss()
    metric.update(torch.tensor(float("nan")), 4)
    metric.update(torch.tensor(1.0), 4)
    assert metric.compute().isnan()


@pytest.mark.parametrize("batch_size", [1, 8, 13, 26, 27])
def test_no_metric_depends_on_the_batch_size(batch_size: int) -> None:
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(27, 7)).astype(np.float32), rng.integers(0, 7, 27)
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(27), target]
    rank = (logits > logits[np.arange(27), target][:, None]).sum(axis=1)
    mean, scores = MeanLoss(), accuracies(7)
    for start in range(0, 27, batch_size):
        some, right = (
            torch.from_numpy(logits[start : start + batch_size]),
            torch.from_numpy(target[start : start + batch_size]),
        )
        mean.update(torch.nn.functional.cross_entropy(some, right), len(right))
        scores.update(some, right)
    assert mean.compute().item() == pytest.approx(losses.mean(), rel=1e-6)
    found = {name: value.item() for name, value in scores.compute().items()}
    assert found == pytest.approx({"accuracy": (rank < 1).mean(), "top5": (rank < 5).mean()}, rel=1e-6)


def test_a_figure_is_written_without_the_tail_of_its_bits() -> None:
    assert str(figure(torch.tensor(23 / 24))) == "0.9583333"
    assert torch.tensor(figure(torch.tensor(23 / 24))) == torch.tensor(23 / 24)
    assert figure(torch.tensor(1 / 3, dtype=torch.float64)) == 1 / 3


def _metrics_of_one(rank: int, out: Path) -> None:
    """One of two gloo processes: the first has 8 + 8 of 27 images, the second 8 + 3."""
    import torch.distributed as dist

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{out}/store", rank=rank, world_size=2)
    losses, logits, target = _samples()
    mean, scores = MeanLoss(), accuracies(7)
    for start in (0, 8) if rank == 0 else (16, 24):
        some = slice(start, start + 8)
        mean.update(losses[some].mean(), len(losses[some]))
        scores.update(logits[some], target[some])
    torch.save({"loss": mean.compute(), **scores.compute()}, out / f"{rank}.pt")
    dist.destroy_process_group()


def _samples() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    losses = torch.rand(27, generator=generator, dtype=torch.float64)
    return losses, torch.randn(27, 7, generator=generator), torch.randint(7, (27,), generator=generator)


def test_two_processes_have_the_metrics_of_all_images(tmp_path: Path) -> None:
    assert in_processes([(_metrics_of_one, rank, tmp_path) for rank in range(2)]) == [0, 0]
    losses, logits, target = (each.numpy() for each in _samples())
    rank = (logits > logits[np.arange(27), target][:, None]).sum(axis=1)
    expected = {"loss": losses.mean(), "accuracy": (rank < 1).mean(), "top5": (rank < 5).mean()}
    for each in range(2):
        found = {name: value.item() for name, value in torch.load(tmp_path / f"{each}.pt").items()}
        assert found == pytest.approx(expected, rel=1e-6)
