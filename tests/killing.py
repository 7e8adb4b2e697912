"""Runs that are killed with SIGKILL at any of their moments: between writes, within a write, within a step.

A moment is counted, not timed: the n-th of those that :func:`_watch` marks. A run without a kill lists them.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

CLOCKED = ("images_per_second", "seconds")
_PRELOADED = ["hexavit.training.trainer", "torchmetrics", "matplotlib.figure", "tests.using"]


@dataclass(frozen=True)
class Kill:
    """The result of a kill: its moment, the steps reached and resumed from, and whether the result is identical."""

    moment: str
    reached: int
    resumed: int
    identical: bool

    @property
    def lost(self) -> int:
        """Steps that were taken twice."""
        return self.reached - self.resumed


def whole(settings: Mapping[str, Any], out: Path) -> list[str]:
    """Train without a kill; returns the moments."""
    assert _in_process(settings, out, 0) == 0
    moments: list[str] = json.loads((out / "moments.json").read_text())
    return moments


def kill(settings: Mapping[str, Any], out: Path, reference: Path, moment: int) -> Kill:
    """Train up to a moment (from 1), kill, resume, and compare with an uninterrupted run."""
    assert _in_process(settings, out, moment) == -signal.SIGKILL
    steps = (out / "steps").read_text().split("\n")[:-1] if (out / "steps").exists() else []
    reached = max((int(line) for line in steps), default=0)
    assert _in_process(settings, out, 0) == 0
    again = [int(line) for line in (out / "steps").read_text().split("\n")[len(steps) : -1]]
    name = json.loads((reference / "moments.json").read_text())[moment - 1]
    return Kill(name, reached, again[0] - 1 if again else reached, left(out) == left(reference))


def left(out: Path) -> dict[str, Any]:
    """The content of a finished run, without measured times and the files that this module writes."""
    table = [line.split(",") for line in (out / "metrics.csv").read_text().splitlines()]
    clocked = [table[0].index(name) for name in CLOCKED]
    metrics = json.loads((out / "metrics.json").read_text())
    files = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    skipped = ("tensorboard", "checkpoints", "metrics", "curves.png", "moments.json", "steps")
    return {
        "metrics.csv": [[each for at, each in enumerate(row) if at not in clocked] for row in table],
        "metrics.json": {name: value for name, value in metrics.items() if name not in CLOCKED},
        **{name: path.read_bytes() for name, path in files.items() if not name.startswith(skipped)},
        "checkpoints": sorted(name for name in files if name.startswith("checkpoints")),
    }


def _in_process(settings: Mapping[str, Any], out: Path, moment: int) -> int | None:
    return in_process(_train, dict(settings), out, moment)


def in_process(target: Callable[..., object], *args: object) -> int | None:
    """Call a function in a new process that has the modules imported already; returns its exit code."""
    return in_processes([(target, *args)])[0]


def in_processes(calls: Sequence[tuple[Any, ...]]) -> list[int | None]:
    """Call functions with their arguments at the same time, each in a new process; returns their exit codes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    processes = [context.Process(target=_alone, args=call) for call in calls]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        with suppress(ProcessLookupError):  # a killed run leaves its data workers
            os.killpg(cast("int", process.pid), signal.SIGKILL)
    return [process.exitcode for process in processes]


def _alone(target: Callable[..., object], *args: object) -> None:
    import torch

    os.setpgrp()
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # of the data workers: the default on Linux
    target(*args)


def _train(settings: dict[str, Any], out: Path, moment: int) -> None:
    from tests.using import silent

    from hexavit.inference import Run
    from hexavit.training import TrainConfig, resume, train

    moments: list[str] = []

    def mark(name: str, first: Callable[[], None] = lambda: None) -> None:
        moments.append(name)
        if len(moments) == moment:
            first()
            os.kill(os.getpid(), signal.SIGKILL)

    _watch(mark, out)
    run = Run(out)
    if not run.config.exists():
        train(TrainConfig.from_mapping(settings), out, console=silent())
    elif not run.metrics.exists():
        resume(out, console=silent())
    if not (out / "moments.json").exists():
        (out / "moments.json").write_text(json.dumps(moments))


def _watch(mark: Callable[..., None], out: Path) -> None:
    """Call ``mark`` at every moment, and write each step that is taken to a file."""
    from torch.optim import AdamW

    from hexavit.training.loop import loop as loops
    from hexavit.training.loop.loop import TrainingLoop

    def around(owner: Any, name: str, said: Callable[..., str]) -> None:
        inner = getattr(owner, name)

        def marked(*args: Any, **options: Any) -> Any:
            mark(f"before {said(*args)}")
            result = inner(*args, **options)
            mark(f"after {said(*args)}")
            return result

        setattr(owner, name, marked)

    update = TrainingLoop.update_weights

    def noted(self: TrainingLoop) -> None:
        with (out / "steps").open("a") as file:
            file.write(f"{self.steps + 1}\n")
        update(self)

    TrainingLoop.update_weights = noted  # type: ignore[method-assign]
    around(AdamW, "step", lambda *_: "the weights change")
    around(loops, "accumulate_gradients", lambda *_: "the gradient")
    around(TrainingLoop, "validation_step", lambda *_: "a validation batch")
    around(TrainingLoop, "end_epoch", lambda *_: "an epoch is recorded")
    around(os, "replace", lambda source, target: f"{Path(target).name} is put in place")
    around(os, "link", lambda source, target: f"{Path(source).name} is linked")
    fsync = os.fsync

    def half(file: int) -> None:
        mark("a file is half written", lambda: os.ftruncate(file, os.fstat(file).st_size // 2))
        fsync(file)

    os.fsync = half
