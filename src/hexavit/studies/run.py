"""Running a study in a folder: its definition, queue, cells and report."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

import hexavit
from hexavit.errors import HexavitError, nearest
from hexavit.files import write_text
from hexavit.studies.definition import Study, StudyError
from hexavit.studies.queue import CellState, Queue
from hexavit.studies.report import write_report
from hexavit.studies.results import Results, gather

DEFINITION = "study.yaml"
_STORAGE = "storage"
Tell = Callable[[str], None]


def run(
    study: Study,
    folder: str | Path,
    *,
    storage: str | None = None,
    workers: int = 1,
    seconds: float | None = None,
    retry: tuple[str, ...] = (),
    tell: Tell = print,
) -> list[CellState]:
    """Run the cells of a study that are left, or continue a study that was stopped.

    Args:
        study: the study. Settings that it does not have are chosen automatically once, for the base, and used by all
            cells.
        folder: for the definition and the runs of this machine.
        storage: where the queue is, such as `postgresql://...`, or the path of a journal file; by default SQLite in the
            folder.
        workers: processes on this machine, which share its cores.
        seconds: no cell is begun after this time.
        retry: states of cells to queue again first: `failed`, or `running` in a storage without heartbeats.
        tell: called with one line for each cell.

    Returns:
        The state of every cell with every seed.

    Raises:
        HexavitError: the study cannot be run: its base cannot be built, its data is missing, or the folder or the
            storage holds another study.
    """
    place = Path(folder)
    study = _stored(study, place, tell)
    if storage is not None and "://" not in storage:
        storage = str(Path(storage).absolute())
    url = storage or f"sqlite:///{place.absolute() / 'study.db'}"
    queue = Queue(url, study.name)
    queue.create(study)
    write_text(place / _STORAGE, url + "\n")
    if retry:
        queue.retry(retry)
    if workers == 1:
        queue.work(place / "cells", tell, seconds=seconds)
    else:
        _run_workers(place, workers, seconds)
    return queue.states()


def status(folder: str | Path) -> tuple[Study, list[CellState]]:
    """A study in a folder, and the state of every cell with every seed.

    Raises:
        StudyError: there is no study in the folder.
    """
    place = Path(folder)
    study = Study.read(_definition(place))
    return study, Queue(_url(place), study.name).states()


def report(folder: str | Path, *, measure: bool = True) -> tuple[Results, list[Path]]:
    """Write the report of a study into its folder.

    Args:
        folder: of the study.
        measure: time inference and memory of the cells' models on this machine.

    Returns:
        The results, and the paths of the report's files.

    Raises:
        StudyError: there is no study in the folder, or no cell has finished.
    """
    study, states = status(folder)
    if all(state.outcome is None for state in states):
        raise StudyError(f"{folder}: no cell of this study has finished yet")
    results = gather(study, states, measure=measure)
    return results, write_report(results, Path(folder) / "report")


def work_in(folder: Path, tell: Tell, seconds: float | None) -> None:
    """Take cells of the study in a folder until none is left: one of several workers."""
    study = Study.read(_definition(folder))
    Queue(_url(folder), study.name).work(folder / "cells", tell, seconds=seconds)


def _stored(study: Study, place: Path, tell: Tell) -> Study:
    """The complete study: the one in the folder if it is there already, else with the automatic settings."""
    if (place / DEFINITION).is_file():
        known = Study.read(place / DEFINITION)
        given, stored = study.as_mapping(), known.as_mapping()
        if any(stored["settings"].get(name) != value for name, value in given["settings"].items()) or any(
            given[entry] != stored[entry]
            for entry in given.keys() - {"settings", "title", "differs", "time", "published"}
        ):
            raise StudyError(f"{place}: this folder holds another study; choose another folder with --out")
        return known
    if place.is_dir() and any(place.iterdir()):
        raise StudyError(f"{place}: this folder holds other files than those of a study; choose another one with --out")
    study = replace(study, settings=_completed(study, tell))
    place.mkdir(parents=True, exist_ok=True)
    write_text(place / DEFINITION, study.to_yaml())
    return study


def _completed(study: Study, tell: Tell) -> dict[str, Any]:
    """The settings with those that are missing, chosen for the base; cells that cannot be built are named."""
    from hexavit.data import open_source
    from hexavit.training.auto_config.facts import gather_facts
    from hexavit.training.auto_config.rules import AUTOMATIC_SETTINGS, choose_settings

    base = study.train_settings(study.cell(study.base), study.seeds[0])
    _build(base)
    for cell in study.cells:
        try:
            _build(study.train_settings(cell, study.seeds[0]))
        except HexavitError as error:
            tell(f"warning: {cell.name} cannot be built and will be a row with this reason: {error}")
    source = open_source(study.settings["data"])
    known = sorted({*source.parts, "val"} - {"train"})
    if study.part not in known:
        raise StudyError(
            f"{study.settings['data']}: this data has no part {study.part!r}; {nearest(study.part, known)}"
        )
    if study.settings.keys() >= AUTOMATIC_SETTINGS:
        return dict(study.settings)
    given = {name: value for name, value in base.items() if name not in ("seed", "overrides")}
    config, reasons = choose_settings(gather_facts(given, source), given)
    chosen = {name: getattr(config, name) for name in AUTOMATIC_SETTINGS if name not in study.settings}
    tell("\n".join(("settings chosen automatically for all cells:", *reasons)))
    return {**study.settings, **chosen}


def _build(settings: Mapping[str, Any]) -> None:
    options: dict[str, Any] = {"img_size": settings.get("img_size"), "overrides": list(settings["overrides"])}
    with torch.device("meta"):
        hexavit.create_model(settings["model"], **options)


def _run_workers(place: Path, workers: int, seconds: float | None) -> None:
    """Processes of `hexavit study work`, which share the cores; all end if one is interrupted."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    command = [sys.executable, "-m", "hexavit", "study", "work", str(place)]
    command += [] if seconds is None else ["--seconds", str(seconds)]
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    processes = [subprocess.Popen(command, env=environment) for _ in range(workers)]
    try:
        for process in processes:
            process.wait()
    except BaseException:
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            process.wait()
        raise


def _definition(place: Path) -> Path:
    if not (place / DEFINITION).is_file():
        raise StudyError(f"{place}: there is no study in this folder; `hexavit study run` makes one")
    return place / DEFINITION


def _url(place: Path) -> str:
    try:
        return (place / _STORAGE).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise StudyError(f"{place}: this study has not been started; `hexavit study run` starts it") from error


def overridden(study: Study, given: Mapping[str, Any], seeds: int | None = None) -> Study:
    """A study with other settings, and with so many seeds, from 0."""
    settings = yaml.safe_load(yaml.safe_dump(dict(given)))
    return Study.from_mapping(
        {
            **study.as_mapping(),
            "settings": {**study.as_mapping()["settings"], **settings},
            **({} if seeds is None else {"seeds": list(range(seeds))}),
        },
        study.name,
    )
