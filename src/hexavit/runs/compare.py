"""Comparison of runs: settings that differ, accuracy, cost, and mean and spread over seeds."""

from __future__ import annotations

import csv
import io
import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from hexavit.duration import in_words
from hexavit.errors import HexavitError, RunError
from hexavit.images.decode import shown
from hexavit.runs.history import best_row
from hexavit.runs.run_folder import Run

State = Literal["finished", "unfinished", "broken"]
_NEEDED = frozenset({"epoch", "accuracy", "loss", "seconds", "images_per_second"})
_IN_COLUMNS = frozenset({"model", "epochs"})
_SEEDS = frozenset({"seed", "split_seed"})


@dataclass(frozen=True)
class RunSummary:
    """The figures of one run.

    Attributes:
        name: path of its folder, relative to the folder that was searched.
        state: `finished`, `unfinished` (running, or interrupted), or `broken`.
        problem: what is wrong with a broken run.
        settings: all settings of ``config.yaml``.
        accuracy: validation accuracy of the best epoch, a fraction of 1. Where images have several classes, it is the
            share of images with all classes right, and the best epoch is that of the highest `map`.
        map: mean average precision of the best epoch, where images have several classes.
        last_accuracy: validation accuracy of the last epoch.
        loss: validation loss of the best epoch.
        epochs: number of finished epochs.
        parameters: number of parameters of the model.
        images_per_second: training speed.
        seconds: training time, without validation.
        history: one row per epoch.
    """

    name: str
    state: State
    problem: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    accuracy: float | None = None
    map: float | None = None
    last_accuracy: float | None = None
    loss: float | None = None
    epochs: int = 0
    parameters: int | None = None
    images_per_second: float | None = None
    seconds: float | None = None
    history: tuple[dict[str, float], ...] = ()

    @property
    def data(self) -> str:
        """The data set, as given to training."""
        return str(self.settings.get("data", ""))

    @property
    def score(self) -> float | None:
        """What runs are compared by: `map`, or the accuracy."""
        return self.accuracy if self.map is None else self.map


def find_runs(folder: str | Path) -> list[RunSummary]:
    """The runs in a folder and its subfolders, by data set, the best validation score first, broken runs last.

    Raises:
        RunError: there is no such folder, or no run in it.
    """
    place = Path(folder)
    if not os.path.isdir(place):
        raise RunError(f"{shown(place)}: there is no such folder")
    found = [_summary(path, place) for path in _run_folders(place)]
    if not found:
        raise RunError(f"{shown(place)}: there is no run in or below this folder")
    return sorted(found, key=lambda each: (each.state == "broken", each.data, -(each.score or 0.0), each.name))


def _run_folders(place: Path) -> list[Path]:
    folders = []
    for parent, below, files in os.walk(place):
        below[:] = sorted(name for name in below if not name.startswith("."))
        # The configuration is written last: a run that was killed before has the other files.
        if "config.yaml" in files or {"architecture.json", "classes.json"} <= set(files):
            folders.append(Path(parent))
            below.clear()
    return folders


def _summary(path: Path, place: Path) -> RunSummary:
    run = Run(path)
    name = shown(path.relative_to(place)) if path != place else shown(place.resolve().name)
    if not run.config.is_file():
        return RunSummary(name, "broken", "it holds no config.yaml, so its start was interrupted")
    try:
        settings = run.settings()
        metrics = _metrics(run)
        history = tuple(_rows(run))
    except (HexavitError, OSError, ValueError) as error:
        return RunSummary(name, "broken", " ".join(str(error).split()))
    state: State = "finished" if run.metrics.is_file() else "unfinished"
    return RunSummary(name, state, None, settings, **_figures(metrics, history), history=history)


def _metrics(run: Run) -> dict[str, float]:
    if not run.metrics.is_file():
        return {}
    read = json.loads(run.metrics.read_text(encoding="utf-8"))
    if not isinstance(read, dict) or not all(isinstance(value, int | float) for value in read.values()):
        raise ValueError(f"{run.metrics}: these are not the metrics of a run")
    return read


def _rows(run: Run) -> list[dict[str, float]]:
    if not run.history.is_file():
        return []
    with run.history.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, strict=True))
    try:
        read = [{name: float(value) for name, value in row.items()} for row in rows]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{run.history}: this history is damaged") from error
    if not all(row.keys() >= _NEEDED for row in read):
        raise ValueError(f"{run.history}: this history lacks a column that every run has")
    return read


def _figures(metrics: dict[str, float], history: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Figures from the metrics of a finished run, else from its history."""
    if metrics:
        whole = {"epochs", "parameters"}
        names = ("accuracy", "map", "last_accuracy", "loss", "epochs", "parameters", "images_per_second", "seconds")
        return {name: int(metrics[name]) if name in whole else metrics[name] for name in names if name in metrics}
    if not history:
        return {}
    best, last = best_row(history), history[-1]
    seconds = sum(row["seconds"] for row in history)
    return {
        "accuracy": best["accuracy"],
        "map": best.get("map"),
        "last_accuracy": last["accuracy"],
        "loss": best["loss"],
        "epochs": int(last["epoch"]),
        "images_per_second": sum(row["seconds"] * row["images_per_second"] for row in history) / max(seconds, 1e-9),
        "seconds": seconds,
    }


def differing(runs: Sequence[RunSummary]) -> list[str]:
    """Names of the settings that differ between readable runs, except model and epochs, which have columns."""
    known = [run.settings for run in runs if run.state != "broken"]
    names = dict.fromkeys(name for settings in known for name in settings)
    return [n for n in names if n not in _IN_COLUMNS and len({repr(settings.get(n)) for settings in known}) > 1]


def as_records(runs: Sequence[RunSummary]) -> list[dict[str, Any]]:
    """Plain values, one record per run, with the settings that differ."""
    names = differing(runs)
    return [
        {
            "name": run.name,
            "state": run.state,
            "problem": run.problem,
            "model": run.settings.get("model"),
            **{name: run.settings.get(name) for name in names},
            "accuracy": run.accuracy,
            "map": run.map,
            "last_accuracy": run.last_accuracy,
            "loss": run.loss,
            "epochs": run.epochs,
            "epochs_asked": run.settings.get("epochs"),
            "parameters": run.parameters,
            "images_per_second": run.images_per_second,
            "seconds": run.seconds,
        }
        for run in runs
    ]


def as_csv(runs: Sequence[RunSummary]) -> str:
    """:func:`as_records` as CSV; missing values are empty, lists are JSON."""
    records = as_records(runs)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    for record in records:
        plain = {k: json.dumps(v) if isinstance(v, list | tuple) else v for k, v in record.items()}
        writer.writerow(plain)
    return text.getvalue()


@dataclass(frozen=True)
class SeedGroup:
    """Finished runs that differ in their seeds alone.

    Attributes:
        runs: the runs, two or more.
        mean: mean of their best validation scores.
        spread: sample standard deviation of these.
    """

    runs: tuple[RunSummary, ...]
    mean: float
    spread: float


def seed_groups(runs: Sequence[RunSummary]) -> list[SeedGroup]:
    """Groups of finished runs with equal settings but for `seed` and `split_seed`, the best mean first."""
    groups: dict[str, list[RunSummary]] = {}
    for run in runs:
        if run.state == "finished" and run.score is not None:
            same = {name: value for name, value in run.settings.items() if name not in _SEEDS}
            groups.setdefault(repr(sorted(same.items())), []).append(run)
    found = []
    for members in groups.values():
        scores = [run.score for run in members if run.score is not None]
        if len({repr([run.settings.get(name) for name in sorted(_SEEDS)]) for run in members}) > 1:
            found.append(SeedGroup(tuple(members), statistics.mean(scores), statistics.stdev(scores)))
    return sorted(found, key=lambda group: (group.runs[0].data, -group.mean))


_WIDE = 120  # columns of a terminal below which figures are left out, so that names can be read


def as_tables(runs: Sequence[RunSummary], columns: int = _WIDE) -> list[Table]:
    """One table per data set, and one of mean and spread over seeds, for a terminal of ``columns`` columns."""
    data = list(dict.fromkeys(run.data for run in runs if run.state != "broken"))
    broken = [run for run in runs if run.state == "broken"]
    if len(data) < 2:
        tables = [as_table(runs, columns)]
    else:
        tables = [
            as_table([run for run in runs if run.data == each and run not in broken], columns, each) for each in data
        ]
        tables += [as_table(broken, columns, "broken")] if broken else []
    groups = seed_groups(runs)
    return [*tables, _seed_table(groups, runs)] if groups else tables


def _seed_table(groups: Sequence[SeedGroup], runs: Sequence[RunSummary]) -> Table:
    names = [name for name in differing(runs) if name not in _SEEDS]
    table = Table(box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0), title="over seeds", title_justify="left")
    for title in ("model", "what differs"):
        table.add_column(title, min_width=8, overflow="fold")
    for title in ("seeds", "mean", "spread"):
        table.add_column(title, justify="right", no_wrap=True)
    for group in groups:
        settings = group.runs[0].settings
        differs = ", ".join(f"{name} {_written(settings.get(name))}" for name in names)
        figures = (str(len(group.runs)), f"{group.mean:.2%}", f"{group.spread:.2%}")
        table.add_row(Text(str(settings.get("model", "–"))), Text(differs), *figures)
    return table


def as_table(runs: Sequence[RunSummary], columns: int = _WIDE, title: str | None = None) -> Table:
    """A table for a terminal of ``columns`` columns; a narrow one shows fewer figures."""
    names = differing(runs)
    left_out = {"last", "parameters", "images/s", "time"} if columns < _WIDE else set()
    figures = ("best", "last", "loss", "epochs", "parameters", "images/s", "time")
    heading = Text(title) if title else None
    table = Table(box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0), title=heading, title_justify="left")
    for title in ("run", "model", "what differs"):
        table.add_column(title, min_width=8, overflow="fold")
    for title in (name for name in figures if name not in left_out):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for run in runs:
        differs = ", ".join(f"{name} {_written(run.settings.get(name))}" for name in names)
        cells = (
            _or_dash(run.accuracy, "{:.2%}") if run.map is None else f"mAP {run.map:.2%}",
            _or_dash(run.last_accuracy, "{:.2%}"),
            _or_dash(run.loss, "{:.3f}"),
            f"{run.epochs}/{run.settings['epochs']}" if "epochs" in run.settings else "–",
            "–" if run.parameters is None else f"{run.parameters / 1e6:.2f} M",
            _or_dash(run.images_per_second, "{:.0f}"),
            "–" if run.seconds is None else in_words(run.seconds),
        )
        table.add_row(
            Text(run.name),  # of which no part is markup
            Text(run.settings.get("model", "–")),
            Text(run.problem or differs),
            *(cell for name, cell in zip(figures, cells, strict=True) if name not in left_out),
            run.state,
        )
    return table


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _written(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else "–" if value is None else str(value)
