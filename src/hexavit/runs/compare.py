"""Runs side by side: what they were, what differs in their settings, how good they are."""

from __future__ import annotations

import csv
import io
import json
import os
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
from hexavit.runs.run_folder import Run

State = Literal["finished", "unfinished", "broken"]
_NEEDED = frozenset({"epoch", "accuracy", "loss", "seconds", "images_per_second"})
_IN_COLUMNS = frozenset({"model", "epochs"})


@dataclass(frozen=True)
class RunSummary:
    """One run in figures, as far as its files tell.

    Attributes:
        name: the path of its folder below the one that was searched.
        state: `finished`, `unfinished` (running, or interrupted), or `broken`.
        problem: of a broken run, what is wrong with it.
        settings: all of ``config.yaml``.
        accuracy: of the best epoch, of the held-out images.
        last_accuracy: of the last epoch.
        loss: of the best epoch, of the held-out images.
        epochs: that are done.
        parameters: of the model.
        images_per_second: in training.
        seconds: of training alone.
        history: one row an epoch.
    """

    name: str
    state: State
    problem: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    accuracy: float | None = None
    last_accuracy: float | None = None
    loss: float | None = None
    epochs: int = 0
    parameters: int | None = None
    images_per_second: float | None = None
    seconds: float | None = None
    history: tuple[dict[str, float], ...] = ()


def find_runs(folder: str | Path) -> list[RunSummary]:
    """The runs in and below a folder, the best held-out accuracy first, the broken ones last.

    Raises:
        RunError: there is no such folder, or no run in it.
    """
    place = Path(folder)
    if not os.path.isdir(place):
        raise RunError(f"{shown(place)}: there is no such folder")
    found = [_summary(path, place) for path in _run_folders(place)]
    if not found:
        raise RunError(f"{shown(place)}: there is no run in or below this folder")
    return sorted(found, key=lambda each: (each.state == "broken", -(each.accuracy or 0.0), each.name))


def _run_folders(place: Path) -> list[Path]:
    folders = []
    for parent, below, files in os.walk(place):
        below[:] = sorted(name for name in below if not name.startswith("."))
        # The configuration is written last, so what was killed before has all but that.
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
    """From the metrics of a finished run, else from the history of one that is not."""
    if metrics:
        whole = {"epochs", "parameters"}
        names = ("accuracy", "last_accuracy", "loss", "epochs", "parameters", "images_per_second", "seconds")
        return {name: int(metrics[name]) if name in whole else metrics[name] for name in names if name in metrics}
    if not history:
        return {}
    best, last = max(history, key=lambda row: row["accuracy"]), history[-1]
    seconds = sum(row["seconds"] for row in history)
    return {
        "accuracy": best["accuracy"],
        "last_accuracy": last["accuracy"],
        "loss": best["loss"],
        "epochs": int(last["epoch"]),
        "images_per_second": sum(row["seconds"] * row["images_per_second"] for row in history) / max(seconds, 1e-9),
        "seconds": seconds,
    }


def differing(runs: Sequence[RunSummary]) -> list[str]:
    """Names of the settings that are not the same in all runs that can be read; model and epochs are not among them."""
    known = [run.settings for run in runs if run.state != "broken"]
    names = dict.fromkeys(name for settings in known for name in settings)
    return [n for n in names if n not in _IN_COLUMNS and len({repr(settings.get(n)) for settings in known}) > 1]


def as_records(runs: Sequence[RunSummary]) -> list[dict[str, Any]]:
    """Plain values, a row a run, with the settings that differ under their names."""
    names = differing(runs)
    return [
        {
            "name": run.name,
            "state": run.state,
            "problem": run.problem,
            "model": run.settings.get("model"),
            **{name: run.settings.get(name) for name in names},
            "accuracy": run.accuracy,
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
    """:func:`as_records` as CSV, nothing where there is nothing; lists as JSON."""
    records = as_records(runs)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    for record in records:
        plain = {k: json.dumps(v) if isinstance(v, list | tuple) else v for k, v in record.items()}
        writer.writerow(plain)
    return text.getvalue()


_ROOM = 120  # columns of a terminal below which figures are left out, so that names can be read


def as_table(runs: Sequence[RunSummary], room: int = _ROOM) -> Table:
    """For a terminal of ``room`` columns; a narrow one shows fewer figures."""
    names = differing(runs)
    left_out = {"last", "parameters", "images/s", "time"} if room < _ROOM else set()
    figures = ("best", "last", "loss", "epochs", "parameters", "images/s", "time")
    table = Table(box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("run", "model", "what differs"):
        table.add_column(title, min_width=8, overflow="fold")
    for title in (name for name in figures if name not in left_out):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for run in runs:
        differs = ", ".join(f"{name} {_written(run.settings.get(name))}" for name in names)
        cells = (
            _or_dash(run.accuracy, "{:.2%}"),
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
