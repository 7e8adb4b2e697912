"""From the outcomes of a study to its table: accuracy, differences to the base, costs, and the paper's figures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch

import hexavit
from hexavit.architecture import Architecture
from hexavit.errors import HexavitError
from hexavit.models import resolve
from hexavit.profiling import profile
from hexavit.profiling.measure import interleaved, peak_bytes, processor
from hexavit.studies.cell import Outcome
from hexavit.studies.definition import Cell, Study, StudyError
from hexavit.studies.queue import CellState
from hexavit.studies.statistics import Difference, paired

_ROUNDS, _BATCH = 5, 32


@dataclass(frozen=True)
class Speed:
    """Inference of one cell's model, measured beside the others.

    Attributes:
        images_per_second: median over the rounds.
        peak_bytes: memory that one batch adds; None where it is not known.
    """

    images_per_second: float
    peak_bytes: int | None


@dataclass(frozen=True)
class Cost:
    """Parameters and multiply-adds of one image."""

    parameters: int
    macs: int


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of one cell in one test.

    Attributes:
        mean: over the seeds.
        spread: sample standard deviation over the seeds; None for one seed.
        difference: to the base; None for the base itself, or if they share no seed.
    """

    mean: float
    spread: float | None
    difference: Difference | None


@dataclass(frozen=True)
class ResultRow:
    """One cell of a study.

    Attributes:
        cell: the cell.
        outcomes: by seed.
        failures: reasons, by seed.
        missing: seeds that wait or run.
        accuracies: by test.
        cost: of the trained size; None if the cell cannot be built.
        full_cost: of the study's full-size model with the same edits; None without one, or if they do not fit it.
        speed: inference on this machine; None if it was not measured.
        published: the paper's figure.
        claim: the paper's difference to its base, in its units.
        agreement: `agrees`, `disagrees` or `undecided`; empty without figures of the paper.
    """

    cell: Cell
    outcomes: Mapping[int, Outcome]
    failures: Mapping[int, str]
    missing: tuple[int, ...]
    accuracies: Mapping[str, Accuracy] = field(default_factory=dict)
    cost: Cost | None = None
    full_cost: Cost | None = None
    speed: Speed | None = None
    published: float | None = None
    claim: float | None = None
    agreement: str = ""


@dataclass(frozen=True)
class Results:
    """A study with the rows of its report.

    Attributes:
        study: the study.
        rows: one per cell, in its order.
        processor: on which speed was measured; empty if it was not.
    """

    study: Study
    rows: tuple[ResultRow, ...]
    processor: str = ""

    @property
    def base(self) -> ResultRow:
        """The row with which the others are compared."""
        return next(row for row in self.rows if row.cell.name == self.study.base)

    def front(self) -> set[str]:
        """Names of the cells that no other cell beats in both accuracy (of the first test) and multiply-adds."""
        test = self.study.tests[0].name
        known = [
            (row.cell.name, row.cost.macs, row.accuracies[test].mean)
            for row in self.rows
            if row.cost is not None and test in row.accuracies
        ]
        return {
            name
            for name, macs, accuracy in known
            if not any(m <= macs and a >= accuracy and (m, a) != (macs, accuracy) for _, m, a in known)
        }


def gather(study: Study, states: Sequence[CellState], *, measure: bool = True) -> Results:
    """The results of the cells that have finished.

    Args:
        study: the study.
        states: of its cells, from the queue.
        measure: time inference and memory of the cells' models here, with random weights.

    Raises:
        StudyError: two outcomes are of different test images.
    """
    finished = [state.outcome for state in states if state.outcome is not None]
    if len({outcome.checksum for outcome in finished}) > 1:
        raise StudyError(f"{study.name}: its cells were tested on different images, so they cannot be compared")
    outcomes = {
        cell.name: {s.seed: s.outcome for s in states if s.cell == cell.name and s.outcome is not None}
        for cell in study.cells
    }
    architectures = {cell.name: _architecture(study, cell) for cell in study.cells}
    speeds = _speeds(architectures) if measure else {}
    rows = []
    for cell in study.cells:
        mine = [state for state in states if state.cell == cell.name]
        architecture = architectures[cell.name]
        accuracies = _accuracies(study, cell.name, outcomes)
        published, claim = _claim(study, cell.name)
        rows.append(
            ResultRow(
                cell,
                outcomes[cell.name],
                {state.seed: state.reason for state in mine if state.state == "failed"},
                tuple(state.seed for state in mine if state.state in ("waiting", "running")),
                accuracies,
                cost=None if architecture is None else _cost(architecture),
                full_cost=_full_cost(study, cell),
                speed=speeds.get(cell.name),
                published=published,
                claim=claim,
                agreement=_agreement(study, claim, accuracies),
            )
        )
    return Results(study, tuple(rows), processor() if speeds else "")


def _accuracies(study: Study, name: str, outcomes: Mapping[str, Mapping[int, Outcome]]) -> dict[str, Accuracy]:
    mine, base = outcomes[name], outcomes[study.base]
    if not mine:
        return {}
    shared = [seed for seed in mine if seed in base]
    found = {}
    for test in (each.name for each in study.tests):
        values = [outcome.accuracy[test] for outcome in mine.values()]
        difference = None
        if name != study.base and shared:
            hits = (np.stack([each[seed].hits(test) for seed in shared]) for each in (mine, base))
            difference = paired(*hits)
        spread = statistics.stdev(values) if len(values) > 1 else None
        found[test] = Accuracy(statistics.mean(values), spread, difference)
    return found


def _claim(study: Study, name: str) -> tuple[float | None, float | None]:
    rows = study.published.rows if study.published else {}
    published, base = rows.get(name), rows.get(study.base)
    known = published is not None and base is not None and name != study.base
    return published, round(published - base, 6) if known and published is not None and base is not None else None


def _agreement(study: Study, claim: float | None, accuracies: Mapping[str, Accuracy]) -> str:
    """Whether ours has the paper's direction. A claim within the paper's margin is one of no difference."""
    difference = accuracies[study.tests[0].name].difference if accuracies else None
    if claim is None or difference is None or study.published is None:
        return ""
    if abs(claim) <= study.published.margin:
        if difference.verdict == "undecided":
            return "agrees" if difference.within(0.01) else "undecided"
        return "agrees" if difference.within(0.01) else "disagrees"
    if difference.verdict == "undecided":
        return "undecided"
    return "agrees" if (claim > 0) == (difference.mean > 0) else "disagrees"


def _architecture(study: Study, cell: Cell) -> Architecture | None:
    """The architecture of a cell; None if it cannot be built."""
    settings = study.train_settings(cell, 0)
    options: dict[str, Any] = {"img_size": settings.get("img_size"), "overrides": list(settings["overrides"])}
    try:
        with torch.device("meta"):
            return cast("Architecture", hexavit.create_model(settings["model"], **options).architecture)
    except HexavitError:
        return None


def _full_cost(study: Study, cell: Cell) -> Cost | None:
    if study.full_size is None or "model" in cell.settings:
        return None
    try:
        return _cost(resolve(study.full_size, overrides=list(cell.edits)))
    except HexavitError:
        return None


def _cost(architecture: Architecture) -> Cost:
    counted = profile(architecture)
    return Cost(counted.parameters, counted.macs)


@torch.no_grad()
def _speeds(architectures: Mapping[str, Architecture | None]) -> dict[str, Speed]:
    """Images per second, and the memory of a batch, of all cells side by side, with random weights."""
    runs, speeds = {}, {}
    for name, architecture in architectures.items():
        if architecture is not None:
            model = hexavit.create_model(architecture).eval()
            images = torch.randn(_BATCH, architecture.in_chans, *architecture.img_size)
            runs[name] = lambda model=model, images=images: model(images)
    seconds = interleaved(runs, _ROUNDS)
    for name, run in runs.items():
        speeds[name] = Speed(_BATCH / statistics.median(seconds[name]), peak_bytes(run))
    return speeds
