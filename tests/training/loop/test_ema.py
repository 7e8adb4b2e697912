from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.using import digits_folder, history, silent, tiny

from hexavit.training import evaluate, train
from hexavit.training.loop.checkpoints import read_checkpoint
from hexavit.training.loop.loop import TrainingLoop


def test_the_averaged_weights_are_validated_and_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update = TrainingLoop.update_weights
    averaged: dict[str, torch.Tensor] = {}
    steps = []

    def watched(self: TrainingLoop) -> None:
        update(self)
        now = {name: value.clone() for name, value in self.model.state_dict().items()}
        # timm's warm-up: 1 - (1 + t)^(-2/3) with t the steps before, up to the decay
        decay = min(0.5, 1 - (1 + len(steps)) ** (-2 / 3)) if steps else 0.0
        for name, value in now.items():
            before = averaged.get(name, value)
            averaged[name] = value if not value.is_floating_point() else before + (value - before) * (1 - decay)
        steps.append(decay)

    monkeypatch.setattr(TrainingLoop, "update_weights", watched)
    run = train(tiny(digits_folder(), ema=0.5), tmp_path / "run", console=silent()).run
    assert len(set(steps)) > 2
    last, state = load_file(run.weights("last")), read_checkpoint(run.checkpoint)
    for name, value in last.items():
        torch.testing.assert_close(value, averaged[name], rtol=1e-5, atol=1e-6)
        assert torch.equal(value, state["ema"][name])
    assert any(not torch.equal(value, state["model"][name]) for name, value in last.items())
    evaluated = evaluate(run, str(digits_folder()), part="val", weights="last", device="cpu")
    assert evaluated.loss == pytest.approx(float(history(run)[-1]["loss"]), rel=1e-5)


def test_no_average_without_ema(tmp_path: Path) -> None:
    run = train(tiny(digits_folder(), epochs=1), tmp_path / "run", console=silent()).run
    assert read_checkpoint(run.checkpoint)["ema"] is None
