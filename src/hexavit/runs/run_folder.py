"""The run folder: creating it, and reading its settings, class names, preprocessing and trained model (no pickles)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from torch import nn

from hexavit.errors import HexavitError, RunError
from hexavit.files import PARTS, write_json
from hexavit.images.preprocess import InputSpec
from hexavit.run_paths import RunPaths, Weights

__all__ = ["Run", "Weights"]


class Run(RunPaths):
    """The folder that a training run writes. Its properties are paths, its methods read files."""

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """A run that has trained weights.

        Raises:
            RunError: the folder is not a run folder, or its run has not finished an epoch.
        """
        run = cls(Path(path))
        if not run.path.is_dir():
            raise RunError(f"{run.path}: there is no such run folder")
        if not run.config.is_file():
            raise RunError(f"{run.path}: this is not a run folder, as it holds no {run.config.name}")
        if not run.weights("best").is_file():
            raise RunError(f"{run.path}: this run has no weights yet; let its training finish an epoch")
        return run

    def split_record(self) -> dict[str, Any]:
        """``data`` (the data set), ``parts`` (names of the images of each split) and ``skipped`` (name to reason)."""
        record: dict[str, Any] = self._read_json(self.split_file)
        if not isinstance(record, dict) or not isinstance(record.get("parts"), dict):
            raise RunError(f"{self.split_file}: this file of the run is damaged (it has no parts of the data)")
        return record

    def settings(self) -> dict[str, Any]:
        """The settings in ``config.yaml``."""
        import yaml

        try:
            found = yaml.safe_load(self._read(self.config))
        except yaml.YAMLError as error:
            raise RunError(f"{self.config}: this is not YAML ({' '.join(str(error).split())})") from error
        if not isinstance(found, dict):
            raise RunError(f"{self.config}: a configuration is a list of `setting: value` lines")
        return found

    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        names = self._read_json(self.classes_file)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise RunError(f"{self.classes_file}: this file of the run is damaged (it is not a list of names)")
        return tuple(names)

    def thresholds(self, which: Weights = "best") -> tuple[float, ...] | None:
        """For each class the probability from which it is predicted; None for data with one class per image."""
        if not self.thresholds_file.is_file():
            return None
        stored = self._read_json(self.thresholds_file)
        values = stored.get(which) if isinstance(stored, dict) else None
        if not isinstance(values, list) or not all(isinstance(value, float) for value in values):
            raise RunError(f"{self.thresholds_file}: this file of the run is damaged (it has no thresholds)")
        return tuple(values)

    def write_thresholds(self, values: Sequence[float], *, best: bool) -> None:
        """Write the thresholds of the last weights, and of the best ones if these are the same."""
        kept = {} if best or not self.thresholds_file.is_file() else self._read_json(self.thresholds_file)
        write_json(self.thresholds_file, {**kept, "last": list(values), **({"best": list(values)} if best else {})})

    def input_spec(self) -> InputSpec:
        """Preprocessing of images."""
        try:
            return InputSpec.from_dict(self._read_json(self.input_file))
        except (AttributeError, TypeError) as error:
            raise RunError(f"{self.input_file}: this file of the run is damaged ({error})") from error

    def model(self, which: Weights = "best") -> nn.Module:
        """The trained model in evaluation mode, on the CPU.

        Raises:
            RunError: the weights are missing, or do not fit ``architecture.json``.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        model = self.build()
        try:
            model.load_state_dict(load_file(self.weights(which)))
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise RunError(f"{self.weights(which)}: these weights cannot be loaded ({reason})") from error
        return model.eval()

    def build(self) -> nn.Module:
        """The model that ``architecture.json`` describes, with fresh weights."""
        import hexavit

        try:
            architecture = hexavit.Architecture.from_json(self._read(self.architecture))
        except HexavitError as error:
            raise RunError(f"{self.architecture}: {error}") from error
        return cast(
            "nn.Module",
            hexavit.create_model(
                architecture,
                num_classes=architecture.num_classes,
                in_chans=architecture.in_chans,
                img_size=architecture.img_size,
            ),
        )

    def _read_json(self, path: Path) -> Any:
        try:
            return json.loads(self._read(path))
        except json.JSONDecodeError as error:
            raise RunError(f"{path}: this file of the run is damaged ({error})") from error

    def _read(self, path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8")
        except OSError as error:
            raise RunError(f"{path}: this file of the run cannot be read ({error.strerror})") from error


def create_run_folder(out: str | Path, *, overwrite: bool) -> Run:
    """Create an empty run folder.

    Args:
        out: the folder.
        overwrite: remove the files of an earlier run there; other files are never removed.

    Raises:
        RunError: the folder holds something else, or cannot be created.
    """
    run = check_run_folder(out, overwrite=overwrite)
    try:
        _clear(run)
        run.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{run.path}: this folder cannot be created ({error.strerror})") from error
    return run


def check_run_folder(out: str | Path, *, overwrite: bool) -> Run:
    """Check that :func:`create_run_folder` would accept a folder, without changing anything.

    Raises:
        RunError: ``out`` is a file, holds a run without ``overwrite``, or holds other files.
    """
    run = Run(Path(out))
    if run.path.exists() and not run.path.is_dir():
        raise RunError(f"{run.path}: this is a file; a run needs a folder")
    if run.config.is_file():
        if not overwrite:
            state = "a finished run" if run.metrics.is_file() else "an unfinished run, which --resume would continue"
            raise RunError(f"{run.path}: this folder holds {state}; --overwrite replaces it")
    elif run.path.is_dir() and not _ours(run):
        raise RunError(f"{run.path}: this folder holds other files than those of a run; choose another folder")
    return run


def resumable_run(out: str | Path, *, or_finished: bool = False) -> Run:
    """The run to resume. Temporary files of a killed process are removed.

    Args:
        out: the run folder.
        or_finished: accept a finished run as well.

    Raises:
        RunError: there is no run, or it has finished.
    """
    run = Run(Path(out))
    if not run.config.is_file():
        raise RunError(f"{run.path}: there is no run to resume; train without --resume to start one")
    if run.metrics.is_file() and not or_finished:
        raise RunError(f"{run.path}: this run has finished; there is nothing to resume")
    for folder in (run.path, run.checkpoint.parent, run.weights("best").parent):
        for part in folder.glob(PARTS):
            part.unlink(missing_ok=True)
    return run


def next_free_path(path: Path) -> Path:
    """The first of ``path``, ``path-2``, ``path-3``, ... that does not exist."""
    number, free = 2, path
    while free.exists():
        free = path.with_name(f"{path.name}-{number}")
        number += 1
    return free


def _files(run: Run) -> tuple[Path, ...]:
    """Files that a run writes into its folder. The configuration is last, because it marks a run."""
    found = (run.architecture, run.classes_file, run.input_file, run.split_file, run.history, run.metrics, run.curves)
    return (*found, run.thresholds_file, *run.path.glob("bad_batch.*safetensors"), *run.path.glob(PARTS), run.config)


def _ours(run: Run) -> bool:
    """Whether a folder is empty, or holds only files of a run that was killed while it started."""
    there = set(run.path.iterdir())
    first = {run.architecture, *run.path.glob(f".{run.architecture.name}{PARTS[1:]}")}
    return not there or (bool(there & first) and there <= {*first, *_files(run)} - {run.metrics, run.history})


def _clear(run: Run) -> None:
    for folder in (run.checkpoint.parent, run.weights("best").parent, run.tensorboard, run.examples, run.wandb):
        shutil.rmtree(folder, ignore_errors=True)
    for file in _files(run):
        file.unlink(missing_ok=True)
