"""Taking a folder for a run: an empty one is taken, another's work is never destroyed unasked."""

from __future__ import annotations

import shutil
from pathlib import Path

from hexavit.errors import RunError
from hexavit.files import PARTS
from hexavit.runs.run_folder import Run


def claim(out: str | Path, *, overwrite: bool) -> Run:
    """An empty run folder at ``out``; with ``overwrite`` what an earlier run left there is removed, and only that.

    Raises:
        RunError: when it is not :func:`claimable`, or cannot be made.
    """
    run = claimable(out, overwrite=overwrite)
    try:
        _clear(run)
        run.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{run.path}: this folder cannot be made ({error.strerror})") from error
    return run


def claimable(out: str | Path, *, overwrite: bool) -> Run:
    """The run folder at ``out``, as :func:`claim` would take it; nothing is changed.

    Raises:
        RunError: when ``out`` is a file, holds a run and ``overwrite`` is not set, or holds other things.
    """
    run = Run(Path(out))
    if run.path.exists() and not run.path.is_dir():
        raise RunError(f"{run.path}: this is a file; a run needs a folder")
    if run.config.is_file():
        if not overwrite:
            state = "a finished run" if run.metrics.is_file() else "an unfinished run, which --resume would continue"
            raise RunError(f"{run.path}: this folder holds {state}; --overwrite replaces it")
    elif run.path.is_dir() and not _ours(run):
        raise RunError(f"{run.path}: this folder holds other things than a run; choose another")
    return run


def unfinished(out: str | Path, *, or_finished: bool = False) -> Run:
    """The run at ``out``, to be resumed; files that a killed process left half written are removed.

    Args:
        out: the run folder.
        or_finished: accept a finished run as well.

    Raises:
        RunError: there is no run, or it has finished.
    """
    run = Run(Path(out))
    if not run.config.is_file():
        raise RunError(f"{run.path}: there is no run here to resume; train without --resume to begin one")
    if run.metrics.is_file() and not or_finished:
        raise RunError(f"{run.path}: this run has finished; there is nothing to resume")
    for folder in (run.path, run.checkpoint.parent, run.weights("best").parent):
        for part in folder.glob(PARTS):
            part.unlink(missing_ok=True)
    return run


def next_free(path: Path) -> Path:
    """``path``, or with ``-2``, ``-3``, ... after its name, the first that does not exist."""
    number, free = 2, path
    while free.exists():
        free = path.with_name(f"{path.name}-{number}")
        number += 1
    return free


def _files(run: Run) -> tuple[Path, ...]:
    """What a run writes into its folder; the configuration last: until then it is still a run."""
    found = (run.architecture, run.classes_file, run.input_file, run.split_file, run.history, run.metrics, run.curves)
    return (*found, *run.path.glob("bad_batch.*safetensors"), *run.path.glob(PARTS), run.config)


def _ours(run: Run) -> bool:
    """Whether the folder holds nothing, or what a training leaves that was killed before its run began."""
    there = set(run.path.iterdir())
    first = {run.architecture, *run.path.glob(f".{run.architecture.name}{PARTS[1:]}")}
    return not there or (bool(there & first) and there <= {*first, *_files(run)} - {run.metrics, run.history})


def _clear(run: Run) -> None:
    for folder in (run.checkpoint.parent, run.weights("best").parent, run.tensorboard, run.examples, run.wandb):
        shutil.rmtree(folder, ignore_errors=True)
    for file in _files(run):
        file.unlink(missing_ok=True)
