"""Models exported behind the scenes for an engine, in a folder that all processes of a user share."""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from filelock import FileLock, Timeout

import hexavit
from hexavit.errors import HexavitError, RunError
from hexavit.export.writers import check_installed
from hexavit.inference.checksum import model_checksum
from hexavit.inference.engines import EngineName
from hexavit.inference.load_model import LoadedModel

CACHE = "HEXAVIT_CACHE"
"""Environment variable with the folder of the cache; by default ``hexavit`` in the user's cache folder."""

_SUFFIXES: dict[EngineName, str] = {"onnxruntime": ".onnx", "openvino": ".xml"}
_FORMAT = 1  # of the entries; a change makes all earlier ones unused
_WAIT = 1800.0  # seconds that a process waits for another one that exports the same model
_FAILED = "failed.txt"


def cache_folder() -> Path:
    """The folder of the cache."""
    if given := os.environ.get(CACHE):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hexavit"


def cached_export(loaded: LoadedModel, engine: EngineName, *, features: bool, make: bool = True) -> Path | None:
    """The file of a model for an engine: from the cache, or exported into it.

    An entry is named by a checksum of the weights, the architecture, the image size, the classes and the versions of
    the libraries, and appears whole or not at all. Of several processes that want the same one, one exports and the
    others wait. An export that failed is not tried again.

    Args:
        loaded: the model.
        engine: ``onnxruntime`` or ``openvino``.
        features: whether the file computes the input of the classifier instead of the logits.
        make: whether to export a model that is not in the cache.

    Returns:
        The path, or None for a model that is not in the cache if `make` is False.

    Raises:
        HexavitError: a package of the engine is not installed, the model cannot be exported or fails the check after
            it, or the folder cannot be written.
    """
    check_installed(_SUFFIXES[engine])
    folder = cache_folder() / "engines"
    if not make and not folder.is_dir():  # saves the checksum
        return None
    place = folder / _key(loaded, engine, features)
    file = place / f"model{_SUFFIXES[engine]}"
    if (known := _known(place, file)) is not None or not make:
        return known
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{place}.lock", timeout=_WAIT):
            return _known(place, file) or _export(loaded, file, features)
    except Timeout as error:
        raise RunError(
            f"{place}: another process has been exporting this model for {_WAIT / 60:.0f} minutes"
        ) from error
    except OSError as error:
        raise RunError(f"{place}: this folder cannot be written ({error.strerror or error}); set {CACHE}") from error


def _known(place: Path, file: Path) -> Path | None:
    """The file of an entry, if it is there.

    Raises:
        HexavitError: the export failed before.
    """
    if (place / _FAILED).is_file():
        raise HexavitError((place / _FAILED).read_text(encoding="utf-8"))
    return file if file.is_file() else None


def _export(loaded: LoadedModel, file: Path, features: bool) -> Path:
    """Export to a folder of another name, and rename it."""
    place = file.parent
    with tempfile.TemporaryDirectory(prefix=f".{place.name[:16]}.", dir=place.parent) as temporary:
        made = Path(temporary) / "entry"
        made.mkdir()
        failed: HexavitError | None = None
        try:
            hexavit.export_model(loaded, made / file.name, dynamic=("batch",), features=features)
        except RunError:  # no space, say: it may succeed the next time
            raise
        except HexavitError as error:
            failed = error
            shutil.rmtree(made)
            made.mkdir()
            (made / _FAILED).write_text(str(error), encoding="utf-8")
        made.rename(place)
    if failed is not None:
        raise failed
    return file


def _key(loaded: LoadedModel, engine: EngineName, features: bool) -> str:
    architecture = getattr(loaded.model, "architecture", None)
    versions = [hexavit.__version__, torch.__version__, *map(_version, (engine, "onnx", "onnxscript"))]
    about = [_FORMAT, engine, features, loaded.classes, loaded.thresholds, loaded.input_spec, *versions]
    return model_checksum(loaded.model, *about, architecture.to_json() if architecture is not None else "")[:32]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
