"""Mixing, frozen stages and validation of the training loop, outside a run."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision.amp import MixedPrecision
from tests.using import digits_folder, tiny
from torch import nn

import hexavit
from hexavit.data import open_source
from hexavit.data.loader import Images, make_loader
from hexavit.data.split import make_split
from hexavit.inference import Run
from hexavit.processes import Processes
from hexavit.training.loop.loop import TrainingLoop
from hexavit.training.objectives.objective import Objective


def made(tmp_path: Path, val_batch: int = 8, fabric: Fabric | None = None, **settings: Any) -> TrainingLoop:
    """A loop over the digits of three classes, before its first step."""
    torch.manual_seed(0)
    config = tiny(digits_folder(), **{"overrides": ["stages.*.depth=1"], **settings})
    model: nn.Module = hexavit.create_model(config.model, num_classes=3, img_size=32, overrides=config.overrides)
    source = open_source(config.data)
    split, transform = make_split(source, 0.25, 0), hexavit.images.preprocess.InputSpec.of_model(model).transform()
    train, val = (Images(source, split[part], transform, config.seed) for part in ("train", "val"))
    loaders = (
        make_loader(train, training=True, batch_size=8, workers=0),
        make_loader(val, training=False, batch_size=val_batch, workers=0),
    )
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    return TrainingLoop(fabric, model, config, Objective(model, config, 3), 3, *loaders, Run(tmp_path / "run"))


@pytest.mark.parametrize("settings", [{"mixup": 0.2}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
def test_mixing_gives_mixtures_of_targets(tmp_path: Path, settings: dict[str, float]) -> None:
    _, target = made(tmp_path, **settings).mix(torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]))
    assert target.shape == (4, 3)
    torch.testing.assert_close(target.sum(-1), torch.ones(4))


@pytest.mark.parametrize("settings", [{"mixup": 0.2}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
@pytest.mark.parametrize("seed", range(4))
def test_processes_mix_as_one_does(tmp_path: Path, settings: dict[str, float], seed: int) -> None:
    loop = made(tmp_path, seed=seed, **settings)
    images, labels = torch.rand(5, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1])
    whole = loop.mix(images, labels)
    parts = []
    for rank in range(2):
        loop.processes = Processes(rank, 2)
        share = loop.processes.share(5)
        halo = [place % 5 for place in range(share.start - 1, share.stop)]
        parts.append(loop.mix(images[halo], labels[halo]))
    for one, some in zip(whole, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(torch.cat(some), one, rtol=0, atol=0)


def test_frozen_stages_stay_and_the_rest_is_trained(tmp_path: Path) -> None:
    loop = made(tmp_path, freeze=2, lr=0.1, weight_decay=0.5, warmup_epochs=0)
    before = {key: value.clone() for key, value in loop.model.state_dict().items()}
    loop.train_epoch()
    changed = {key for key, value in loop.model.state_dict().items() if not torch.equal(value, before[key])}
    assert any(key.startswith("stages.2.") for key in changed)
    assert any(key.startswith("head.") for key in changed)
    assert not any(key.startswith(("stages.0.", "stages.1.")) for key in changed)  # running statistics included


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_validation_does_not_depend_on_the_batch_size(tmp_path: Path, micro_batch: int | None) -> None:
    loop = made(tmp_path, micro_batch=micro_batch)
    images, labels = zip(*(pair for batch in loop.val_loader for pair in zip(*batch, strict=True)), strict=True)
    assert len(labels) == 6
    with torch.no_grad():
        logits = loop.model.eval()(torch.stack(images)).double().numpy()
    log_sum = torch.from_numpy(logits).logsumexp(1).numpy()
    losses = [total - row[label] for row, total, label in zip(logits, log_sum, labels, strict=True)]
    right = [row.argmax() == label for row, label in zip(logits, labels, strict=True)]
    for size in (1, 4, 5, 6):
        found = made(tmp_path, val_batch=size, micro_batch=micro_batch).validate()
        assert found["loss"] == pytest.approx(sum(losses) / 6, rel=1e-5), size
        assert found["accuracy"] == pytest.approx(sum(right) / 6), size


def test_a_resumed_loop_has_the_moving_average_of_the_checkpoint(tmp_path: Path) -> None:
    loop = made(tmp_path, ema=0.5, lr=0.1, warmup_epochs=0)
    for batch in loop.train_loader:
        loop.training_step(*batch)
        loop.state.add(1.0, 8)
    state = copy.deepcopy(loop.state_dict())
    averaged = state["ema"]["head.fc.weight"]
    assert not torch.equal(averaged, state["model"]["head.fc.weight"])
    resumed = made(tmp_path, ema=0.5)
    resumed.load_state_dict(state)
    assert torch.equal(resumed.evaluated_model.state_dict()["head.fc.weight"], averaged)


def test_float16_skips_a_step_that_overflows(tmp_path: Path) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60)  # a scale at which every gradient is infinite
    fabric = Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler=scaler)])
    loop = made(tmp_path, fabric=fabric, precision="float16", warmup_epochs=0)
    weight = loop.model.state_dict()["head.fc.weight"]
    before, batch = weight.clone(), next(iter(loop.train_loader))
    loop.training_step(*batch)
    assert torch.equal(weight, before)
    assert scaler.get_scale() == 2.0**59
    scaler.load_state_dict({**scaler.state_dict(), "scale": 2.0**8})
    loop.training_step(*batch)
    assert not torch.equal(weight, before)
    assert loop.state_dict()["precision"]["scale"] == 2.0**8
