"""One cell of a study with one seed: train it or continue its run, then evaluate it on the test images."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

import hexavit
from hexavit.data import open_source
from hexavit.errors import RunError
from hexavit.evaluation.evaluate import evaluate_with_predictions
from hexavit.inference.load_model import LoadedModel
from hexavit.runs.compare import find_runs
from hexavit.runs.run_folder import Run
from hexavit.studies.definition import Cell, Study, Test
from hexavit.training.config import TrainConfig
from hexavit.training.trainer import resume, train


@dataclass(frozen=True)
class Outcome:
    """What one cell with one seed gave.

    Attributes:
        accuracy: share of right predictions, by test.
        right: of each test image whether it was predicted right, by test; packed bits in base64.
        images: number of test images.
        checksum: of the test images' names in their order; equal where results can be paired.
        history: epoch, validation accuracy and training loss, one row per epoch.
        images_per_second: training speed.
        seconds: training time.
    """

    accuracy: Mapping[str, float]
    right: Mapping[str, str]
    images: int
    checksum: str
    history: tuple[tuple[float, float, float], ...]
    images_per_second: float
    seconds: float

    def hits(self, test: str) -> NDArray[np.bool_]:
        """Of each test image whether it was predicted right, (N,)."""
        packed = np.frombuffer(b64decode(self.right[test]), dtype=np.uint8)
        return np.unpackbits(packed, count=self.images).astype(bool)

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        """The inverse of :meth:`to_json`."""
        values = json.loads(text)
        values["history"] = tuple(tuple(row) for row in values["history"])
        return cls(**values)


def run_cell(study: Study, cell: Cell, seed: int, folder: Path) -> Outcome:
    """Train a cell with a seed, or continue its run, and evaluate the weights of the last epoch.

    Args:
        study: the study.
        cell: one of its cells.
        seed: one of its seeds.
        folder: the run folder; an unfinished run in it is continued.

    Raises:
        HexavitError: the cell cannot be built or trained.
    """
    quiet = Console(quiet=True)
    config = TrainConfig.from_mapping(study.train_settings(cell, seed))
    run = Run(folder)
    if not run.metrics.is_file():
        if run.config.is_file():
            resume(folder, console=quiet)
        else:
            train(config, folder, console=quiet)
    return _outcome(study, run, str(config.data))


def _outcome(study: Study, run: Run, data: str) -> Outcome:
    loaded = LoadedModel.of_run(run, "last")  # of few validation images, chance decides which epoch is the best
    accuracy, right, numbers = {}, {}, None
    for test in study.tests:
        tested = evaluate_with_predictions(
            _as_tested(loaded, test),
            data,
            part=study.part,  # type: ignore[arg-type]
            optimize=False,
            engine="torch",
        )
        hits = tested.predictions.right
        order = np.argsort(tested.predictions.numbers)
        if numbers is not None and not np.array_equal(numbers, tested.predictions.numbers[order]):
            raise RunError(f"{run.path}: the tests of a study are of the same images")
        numbers = tested.predictions.numbers[order]
        accuracy[test.name] = float(hits.mean())
        right[test.name] = b64encode(np.packbits(hits[order]).tobytes()).decode()
    assert numbers is not None  # a study has at least one test
    names = open_source(data).names
    checksum = hashlib.sha256("\0".join(names[number] for number in numbers).encode(errors="surrogateescape"))
    summary = find_runs(run.path)[0]
    return Outcome(
        accuracy=accuracy,
        right=right,
        images=len(numbers),
        checksum=checksum.hexdigest()[:16],
        history=tuple((row["epoch"], row["accuracy"], row["train_loss"]) for row in summary.history),
        images_per_second=summary.images_per_second or 0.0,
        seconds=summary.seconds or 0.0,
    )


def _as_tested(loaded: LoadedModel, test: Test) -> LoadedModel:
    """The trained model at the size and with the edits of a test; position tables are resized."""
    if test.img_size is None and not test.edits:
        return loaded
    old: Any = loaded.model
    size = test.img_size or old.architecture.img_size
    model = hexavit.create_model(
        old.architecture,
        num_classes=old.architecture.num_classes,
        in_chans=old.architecture.in_chans,
        img_size=size,
        overrides=list(test.edits),
    )
    hexavit.load_checkpoint(model, old.state_dict(), adapt="position")
    return replace(loaded, model=model.eval(), input_spec=replace(loaded.input_spec, size=size))
