import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from hexavit.cli import main
from hexavit.inference import predict
from hexavit.training.demo import RECIPE, demo


def test_the_demo_trains_predicts_and_prints_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/demo").mkdir(parents=True)  # an earlier one is left alone
    shown = io.StringIO()
    trained = demo(config=replace(RECIPE, epochs=1), console=Console(file=shown, width=120))
    assert trained.run.path == Path("runs/demo-2")
    assert trained.metrics["accuracy"] > 0.5
    assert re.search(r"│ digit-7-\d{4}\.png +│ 7 +│ \d", shown.getvalue())
    assert len(list(predict(trained.run, [trained.run.examples]))) == 10
    commands = re.findall(r"^  hexavit (.*)$", shown.getvalue(), re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["predict", "evaluate", "profile", "show", "train"]
    assert [main(command.replace("--epochs 10", "--epochs 1").split()) for command in commands] == [0] * 5
