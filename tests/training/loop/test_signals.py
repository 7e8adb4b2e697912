import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.killing import in_process, left, whole
from tests.training.loop.test_kills import settings

from hexavit.inference import Run


def train_and_signal(given: dict[str, Any] | None, out: Path, number: int, where: str) -> None:
    """`hexavit train` with its output in a file; the process sends itself the signal at one moment."""
    from hexavit.cli import main
    from hexavit.training import TrainConfig
    from hexavit.training.loop import loop, signals
    from hexavit.training.loop.loop import TrainingLoop

    os.setpgrp()
    log = os.open(out.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    signals.STEP_LIMIT = 0.5 if where == "long step" else 8.0
    gradient, validate = loop.accumulate_gradients, TrainingLoop.validation_step
    calls = []

    def at_fifth(*args: Any, **options: Any) -> float:
        calls.append(args)
        loss = gradient(*args, **options)
        if len(calls) == 5 and where != "validation":
            if where == "long step":
                signal.setitimer(signal.ITIMER_REAL, 60)  # kills this process if the step does not end
            out.with_suffix(".when").write_text(str(time.time()))
            os.killpg(0, number)  # the data workers too
            if where == "twice":
                os.kill(os.getpid(), number)
            time.sleep(30 if where == "long step" else 0)
        return loss

    def validated(self: TrainingLoop, *args: Any) -> tuple[float, int]:
        if where == "validation":
            out.with_suffix(".when").write_text(str(time.time()))
            os.killpg(0, number)
        return validate(self, *args)

    loop.accumulate_gradients = at_fifth
    TrainingLoop.validation_step = validated  # type: ignore[method-assign]
    if given is None:
        sys.exit(main(["train", "--resume", "--out", str(out)]))
    recipe = out.with_suffix(".yaml")
    recipe.write_text(TrainConfig.from_mapping(given).to_yaml())
    sys.exit(main(["train", "--out", str(out), "--config", str(recipe)]))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    whole(settings(1e9), out)
    return out


@pytest.mark.parametrize(
    ("number", "where", "said"),
    [
        (signal.SIGINT, "step", "after step 2 of epoch 2"),
        pytest.param(signal.SIGTERM, "step", "after step 2 of epoch 2", marks=pytest.mark.slow),
        (signal.SIGTERM, "validation", "after step 3 of epoch 1"),
    ],
)
def test_a_signal_leaves_a_checkpoint(reference: Path, tmp_path: Path, number: int, where: str, said: str) -> None:
    out = tmp_path / "run"
    assert in_process(train_and_signal, settings(1e9), out, number, where) == 128 + number
    assert time.time() - float(out.with_suffix(".when").read_text()) < 10
    log = out.with_suffix(".log").read_text()
    assert f"stopped; to continue {said}: hexavit train --resume --out {out}\n" in log
    assert "Traceback" not in log
    assert in_process(train_and_signal, None, out, 0, "never") == 0
    assert left(out) == left(reference)


@pytest.mark.parametrize("where", ["twice", "long step"])
def test_a_second_signal_or_a_long_step_ends_the_process_at_once(tmp_path: Path, where: str) -> None:
    out = tmp_path / "run"
    assert in_process(train_and_signal, settings(1e9), out, signal.SIGTERM, where) == 128 + signal.SIGTERM
    log = out.with_suffix(".log").read_text()
    assert ("stopped within a step that takes too long; --resume continues with epoch 2\n" in log) == (
        where == "long step"
    )
    assert "Traceback" not in log
    assert Run(out).checkpoint.is_file()
