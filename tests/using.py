"""Shared by the tests of training and inference: a few digits as image files, and one run trained on them."""

import atexit
import csv
import functools
import importlib.util
import io
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest
import torch
from rich.console import Console

from hexavit.cli import main
from hexavit.data import Digits
from hexavit.inference import Run
from hexavit.training import TrainConfig, train
from hexavit.training.loop.loop import TrainingLoop

CLASSES = ("one", "two", "zero")
TIMES = {"images_per_second", "seconds"}


BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@functools.cache
def benchmark(name: str) -> ModuleType:
    """A script of the benchmarks as a module, which finds its neighbours."""
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


def make_folder(path: Path, per_class: int = 10, parts: tuple[str, ...] = (".",), first: int = 0) -> Path:
    """Class folders of PNG digits below ``path``, or below each part of it, from the ``first`` of each class on."""
    digits = Digits()
    for place, part in enumerate(parts):
        for label, name in enumerate(("zero", "one", "two")):
            folder = path / part / name
            folder.mkdir(parents=True)
            numbers = [n for n, each in enumerate(digits.labels) if each == label]
            for number in numbers[first + place * per_class : first + (place + 1) * per_class]:
                digits.load(number).save(folder / f"{number:04d}.png")
    return path


def tiny(data: str | Path, **settings: object) -> TrainConfig:
    """Settings of a run of a second or two."""
    given = {"epochs": 2, "batch_size": 8, "img_size": 32, "workers": 0, "device": "cpu", **settings}
    return TrainConfig.from_mapping({"model": "cvt_nano", "data": str(data), **given})


def interrupt_at(monkeypatch: pytest.MonkeyPatch, epoch: int, step: int = 0) -> None:
    """Raise KeyboardInterrupt before a step of training; both count from 0."""
    training_step = TrainingLoop.training_step

    def interrupted(self: TrainingLoop, images: torch.Tensor, target: object) -> tuple[float, int]:
        if (self.state.epoch, self.state.step) == (epoch, step):
            raise KeyboardInterrupt
        return training_step(self, images, target)

    monkeypatch.setattr(TrainingLoop, "training_step", interrupted)


def silent() -> Console:
    """A console that writes to a string."""
    return Console(file=io.StringIO())


def history(run: Run) -> list[dict[str, str]]:
    """``metrics.csv`` without measured times."""
    with run.history.open(newline="") as file:
        return [{name: value for name, value in row.items() if name not in TIMES} for row in csv.DictReader(file)]


@functools.cache
def digits_folder() -> Path:
    """Thirty digits of three classes as files; do not write to it."""
    place = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, place)
    return make_folder(place / "digits")


@functools.cache
def trained() -> Run:
    """A run trained on :func:`digits_folder`; do not write to it."""
    return train(tiny(digits_folder()), digits_folder().parent / "run", console=silent()).run


def train_by_command(capsys: pytest.CaptureFixture[str], out: Path, *arguments: object) -> str:
    """The output of `hexavit train` for one small epoch on the folder of digits, or its error message."""
    small = "--epochs", 1, "--batch-size", 12, "--img-size", 32, "--workers", 0, "--device", "cpu"
    status = main(["train", str(digits_folder()), *map(str, small), "--out", str(out), *map(str, arguments)])
    printed = capsys.readouterr()
    return printed.out if status == 0 else printed.err
