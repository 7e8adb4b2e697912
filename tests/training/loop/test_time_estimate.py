import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from tests.using import digits_folder, tiny

from hexavit.cli import main
from hexavit.training import train
from hexavit.training.auto_config.alternatives import Alternative, shorter_alternatives
from hexavit.training.auto_config.fact_types import Candidate
from hexavit.training.config import TrainConfig
from hexavit.training.loop import time_estimate

MODELS = (
    Candidate("cvt_nano", 32),
    Candidate("ceit_tiny_patch16_224", 224, 6.4, 1.2e9, 0.764),
    Candidate("cvt_13", 224, 20, 4.5e9, 0.816),
)


def shown(tmp_path: Path, **settings: object) -> list[str]:
    printed = io.StringIO()
    train(tiny(digits_folder(), **settings), tmp_path / "my run", console=Console(file=printed, width=80))
    return printed.getvalue().splitlines()


def test_the_time_left_is_printed_after_twenty_steps(tmp_path: Path) -> None:
    lines = shown(tmp_path, epochs=8)  # of 3 steps
    (printed,) = (number for number, line in enumerate(lines) if line.startswith("about "))
    assert re.fullmatch(r"about \d+ s left: 2 epochs of \d+ s", lines[printed])
    assert lines[printed - 1].startswith("epoch 6/8 ")
    assert lines[printed + 1].startswith("epoch 7/8 ")


def test_a_shorter_run_prints_no_estimate(tmp_path: Path) -> None:
    assert not any(line.startswith("about ") for line in shown(tmp_path, epochs=2))


def test_over_an_hour_shorter_runs_are_suggested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_estimate, "in_words", lambda seconds: "long")
    monkeypatch.setattr(time_estimate, "HOUR", 0.0)
    monkeypatch.setattr(time_estimate, "shorter_alternatives", lambda *_: [Alternative("--epochs 1", 60.0)])
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


def test_suggestions_are_computed_from_the_measured_time() -> None:
    config = TrainConfig(model="cvt_13", data="photos", epochs=20)
    found = shorter_alternatives(config, 3 * 3600, (224, 224), 4.5e9, MODELS)
    assert [each.option for each in found] == [
        "--epochs 6 --warmup-epochs 0.6",
        "--img-size 128",
        "--model ceit_tiny_patch16_224",
    ]
    assert [each.seconds for each in found] == pytest.approx([3240, 3526.5, 2880], rel=1e-3)
    assert all(each.seconds < 3600 for each in found)


def test_a_run_from_weights_keeps_their_model() -> None:
    config = TrainConfig(model="cvt_13", data="photos", epochs=4, start="cvt_13")
    found = shorter_alternatives(config, 30 * 3600, (224, 224), 4.5e9, MODELS)
    assert [each.option for each in found] == ["--img-size 96"]
    assert shorter_alternatives(TrainConfig(model="cvt_nano", data="x"), 9e9, (32, 32), 4e6, MODELS) == []
