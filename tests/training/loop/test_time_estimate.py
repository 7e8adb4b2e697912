import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from tests.using import digits_folder, tiny

from hexavit.cli import main
from hexavit.training import train
from hexavit.training.auto_config.alternatives import Smaller, smaller_choices
from hexavit.training.auto_config.rules import Candidate
from hexavit.training.config import TrainConfig
from hexavit.training.loop import time_estimate

MODELS = (
    Candidate("cvt_nano", 32),
    Candidate("ceit_tiny_patch16_224", 224, 6.4, 1.2e9, 0.764),
    Candidate("cvt_13", 224, 20, 4.5e9, 0.816),
)


def shown(tmp_path: Path, **settings: object) -> list[str]:
    told = io.StringIO()
    train(tiny(digits_folder(), **settings), tmp_path / "my run", console=Console(file=told, width=80))
    return told.getvalue().splitlines()


def test_the_time_left_is_told_after_twenty_steps(tmp_path: Path) -> None:
    lines = shown(tmp_path, epochs=8)  # of 3 steps
    (told,) = (number for number, line in enumerate(lines) if line.startswith("about "))
    assert re.fullmatch(r"about \d+ s left: 2 epochs of \d+ s", lines[told])
    assert lines[told - 1].startswith("epoch 6/8 ")
    assert lines[told + 1].startswith("epoch 7/8 ")


def test_nothing_is_told_of_a_training_that_is_over_before(tmp_path: Path) -> None:
    assert not any(line.startswith("about ") for line in shown(tmp_path, epochs=2))


def test_over_an_hour_smaller_ones_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_estimate, "in_words", lambda seconds: "long")
    monkeypatch.setattr(time_estimate, "HOUR", 0.0)
    monkeypatch.setattr(time_estimate, "smaller_choices", lambda *_: [Smaller("--epochs 1", 60.0)])
    lines = shown(tmp_path, epochs=8)
    (place,) = (number for number, line in enumerate(lines) if line.startswith("about "))
    run = tmp_path / "my run"
    command = f"hexavit train --config '{run}/config.yaml' --epochs 1 --out '{run}-smaller'"
    assert lines[place + 1 : place + 3] == [
        "this run continues; any of these would be shorter:",
        f"  {command}  # about long",
    ]
    assert lines[-1].startswith("epoch 8/8")
    words = command.replace("'", "").replace(str(run), "RUN").split()[1:]
    assert main([word.replace("RUN", str(run)) for word in words]) == 0


def test_what_is_offered_is_computed() -> None:
    config = TrainConfig(model="cvt_13", data="photos", epochs=20)
    found = smaller_choices(config, 3 * 3600, (224, 224), 4.5e9, MODELS)
    assert [each.option for each in found] == [
        "--epochs 6 --warmup-epochs 0.6",
        "--img-size 128",
        "--model ceit_tiny_patch16_224",
    ]
    assert [each.seconds for each in found] == pytest.approx([3240, 3526.5, 2880], rel=1e-3)
    assert all(each.seconds < 3600 for each in found)


def test_weights_keep_their_model() -> None:
    config = TrainConfig(model="cvt_13", data="photos", epochs=4, start="cvt_13")
    found = smaller_choices(config, 30 * 3600, (224, 224), 4.5e9, MODELS)
    assert [each.option for each in found] == ["--img-size 96"]
    assert smaller_choices(TrainConfig(model="cvt_nano", data="x"), 9e9, (32, 32), 4e6, MODELS) == []
