"""Models saved as folders: architecture, weights, preprocessing, class names and a card; local or on the hub."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hexavit.architecture import Architecture
from hexavit.checkpoints import load_checkpoint
from hexavit.checkpoints.writer import write_json, write_state, write_text
from hexavit.errors import CheckpointError, HexavitError
from hexavit.hub.download import fetch, sha256_of
from hexavit.hub.model_card import MARK, model_card
from hexavit.hub.pretrained import create_pretrained
from hexavit.models import build_model, find_weight, list_weights, pretrained_cfg
from hexavit.network.backbone import Backbone
from hexavit.run_paths import RunPaths

ARCHITECTURE, WEIGHTS, CONFIG, CARD = "architecture.json", "model.safetensors", "config.json", "README.md"
_PREPROCESSING = ("interpolation", "crop_mode", "crop_pct", "mean", "std")
_FROM_ARCHITECTURE = ("num_classes", "input_size", "pool_size", "fixed_input_size", "first_conv", "classifier")
_TEXTS = ("architecture", "tag", "hf_hub_id", "license")
_CHOICES = {"interpolation": ("bilinear", "bicubic"), "crop_mode": ("center", "squash")}
_MAX_JSON = 64 << 20  # bytes


def save_pretrained(
    model: nn.Module,
    folder: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    license: str | None = None,
    metrics: Mapping[str, float] | None = None,
) -> Path:
    """Save a model as a folder, from which `from_pretrained` restores it exactly.

    Writes `architecture.json`, `model.safetensors`, `config.json` (preprocessing, class names, thresholds of a model of
    images with several classes, checksums of the other two) and a model card, `README.md`. Each file is written
    atomically and `config.json` last, so that `from_pretrained` detects an interrupted save. A model card that you have
    edited is kept.

    Args:
        model: a model of `create_model`.
        folder: created if it does not exist; other files in it are kept.
        class_names: in the order of the logits; None for `model.pretrained_cfg["label_names"]`, if any.
        license: SPDX identifier of the weights' licence; None for that of the weights that the model started from.
        metrics: figures for the model card, such as `{"accuracy": 0.991}` (fractions of 1).

    Returns:
        The folder.

    Raises:
        HexavitError: the model is a `FeatureBackbone` or another module, its modules differ from its architecture, or
            the number of names differs from the number of classes.
        CheckpointError: the folder holds a model of another library, or cannot be written.
    """
    if not isinstance(model, Backbone):
        raise HexavitError(f"save_pretrained needs a whole model of create_model, not a {type(model).__name__}")
    _check_unchanged(model)
    place = Path(folder)
    if (place / CONFIG).exists() and _read_json(place / CONFIG).get("library_name") != "hexavit":
        raise CheckpointError(f"{place} holds another library's {CONFIG}: choose another folder")
    names = class_names if class_names is not None else model.pretrained_cfg.get("label_names")
    if names is not None and (len(names) != model.num_classes or len(set(names)) != len(names)):
        raise HexavitError(f"{model.num_classes} classes need as many names, all different, not {len(names)}")
    thresholds = model.pretrained_cfg.get("thresholds")
    cfg = _cfg_to_save(place, model, license)
    write_text(model.architecture.to_json() + "\n", place / ARCHITECTURE)
    write_state(model.state_dict(), place / WEIGHTS)
    if not (place / CARD).exists() or MARK in _read_text(place / CARD):
        write_text(model_card(model, cfg, names, metrics or {}), place / CARD)
    config = {
        "library_name": "hexavit",
        "format": 1,
        "architecture": model.architecture.name,
        "num_classes": model.num_classes,
        "pretrained_cfg": cfg,
        **({} if names is None else {"label_names": list(names)}),
        **({} if thresholds is None else {"thresholds": list(thresholds)}),
        "sha256": {file: sha256_of(place / file) for file in (ARCHITECTURE, WEIGHTS)},
    }
    write_json(config, place / CONFIG)
    return place


def from_pretrained(path_or_repo_id: str | Path, *, revision: str | None = None) -> Backbone:
    """Load a model from a folder of `save_pretrained`, a run folder, or a repository on the Hugging Face hub.

    Args:
        path_or_repo_id: a folder of `save_pretrained`; a run folder, of which the best weights are loaded; or
            OWNER/NAME, a repository of `push_to_hub` or of published weights (`microsoft/cvt-13`).
        revision: branch, tag or commit of the repository.

    Returns:
        The model in evaluation mode. Its `pretrained_cfg` holds the preprocessing, the class names under `label_names`
        if they are known, and `thresholds` if images have several classes.

    Raises:
        CheckpointError: the folder or repository does not exist, belongs to another library, or has files that do not
            match each other.
        ArchitectureError: the architecture uses a part that is not registered.
    """
    folder = Path(path_or_repo_id)
    run = RunPaths(folder)
    if run.config.is_file():
        return _load_run(run)
    if is_pretrained(folder):
        return _load(str(folder), lambda file: folder / file)
    if folder.is_dir():
        raise CheckpointError(
            f"{folder} is neither a folder of save_pretrained ({ARCHITECTURE}, {WEIGHTS}, {CONFIG}) nor a run folder "
            f"({run.config.name}): for other weights use create_model, then load_checkpoint"
        )
    repo_id = str(path_or_repo_id)
    if folder.exists() or repo_id.count("/") != 1 or repo_id.startswith((".", "/", "~")):
        raise CheckpointError(f"{repo_id} is neither a folder of save_pretrained nor OWNER/NAME on the hub")
    for name in list_weights():
        weight = find_weight(name)
        if weight is not None and weight.hub_id == repo_id and revision in (None, weight.revision):
            return create_pretrained(name).eval()

    def fetched(file: str) -> Path:
        path = fetch(repo_id, file, revision)
        if path is None:
            raise CheckpointError(f"{repo_id} on the hub holds no hexavit model, as it has no {file}")
        return path

    return _load(repo_id, fetched)


def is_pretrained(folder: Path) -> bool:
    """Whether a folder has the files of `save_pretrained`."""
    return all((folder / file).is_file() for file in (ARCHITECTURE, WEIGHTS, CONFIG))


def _load(where: str, file: Callable[[str], Path]) -> Backbone:
    config = _read_json(file(CONFIG))
    if config.get("library_name") != "hexavit" or config.get("format") != 1:
        raise CheckpointError(f'{where}: {CONFIG} lacks "library_name": "hexavit" and "format": 1')
    sums, paths = config.get("sha256"), {name: file(name) for name in (ARCHITECTURE, WEIGHTS)}
    for name, path in paths.items():
        if not isinstance(sums, dict) or sums.get(name) != sha256_of(path):
            raise CheckpointError(f"{where}: {name} is not the file that {CONFIG} was written for")
    model = build_model(Architecture.from_json(_read_text(paths[ARCHITECTURE])))
    load_checkpoint(model, paths[WEIGHTS])
    model.pretrained_cfg = _checked_cfg(f"pretrained_cfg in {where}/{CONFIG}", config, model.pretrained_cfg)
    _set_label_names(model, f"label_names in {where}/{CONFIG}", config.get("label_names"))
    _set_thresholds(model, f"thresholds in {where}/{CONFIG}", config.get("thresholds"))
    return model.eval()


def _load_run(run: RunPaths) -> Backbone:
    weights = run.weights("best")
    if not weights.is_file():
        raise CheckpointError(f"{run.path}: this run has no weights yet, as it has not finished an epoch")
    model = build_model(Architecture.from_json(_read_text(run.architecture)))
    load_checkpoint(model, weights)
    stored = _read_json(run.input_file)
    given = {"pretrained_cfg": {key: stored[key] for key in _PREPROCESSING if key in stored}}
    model.pretrained_cfg = _checked_cfg(str(run.input_file), given, model.pretrained_cfg)
    _set_label_names(model, str(run.classes_file), _read(run.classes_file))
    if run.thresholds_file.is_file():
        _set_thresholds(model, str(run.thresholds_file), _read_json(run.thresholds_file).get("best", ()))
    return model.eval()


def _check_unchanged(model: Backbone) -> None:
    """Raise an error if a model's modules are not those that its architecture describes."""
    with torch.device("meta"):
        fresh = build_model(model.architecture)
    now, built = dict(model.named_modules()), dict(fresh.named_modules())
    found = [path for path in (*built, *now) if _described(now.get(path)) != _described(built.get(path))]
    tensors, expected = model.state_dict(), fresh.state_dict()
    found += [key for key in (*expected, *tensors) if _shape(tensors, key) != _shape(expected, key)]
    if not found:
        return
    first = found[0]
    if first in now or first in built:
        difference = f"{first} is {_described(now.get(first))}, not {_described(built.get(first))}"
    else:
        difference = f"{first} has the shape {_shape(tensors, first)}, not {_shape(expected, first)}"
    raise HexavitError(
        f"the model's modules differ from its architecture, so from_pretrained could not rebuild it: {difference}; "
        "undo the change (remove parametrizations, merge adapters, save the model and not its optimized copy), make it "
        "in the architecture (create_model(..., overrides=...), reset_classifier), or save model.state_dict()"
    )


def _described(module: nn.Module | None) -> str:
    """A module's class and options, without drop rates."""
    if module is None:
        return "missing"
    name = type(module).__name__
    return name if "Drop" in name else f"{name}({module.extra_repr()})"


def _shape(tensors: Mapping[str, torch.Tensor], key: str) -> tuple[int, ...] | None:
    return tuple(tensors[key].shape) if key in tensors else None


def _cfg_to_save(place: Path, model: Backbone, license: str | None) -> dict[str, Any]:
    """The entries of a model's `pretrained_cfg` that can be read back."""
    own = pretrained_cfg(model.architecture)
    known = (*_FROM_ARCHITECTURE, *_TEXTS, *_PREPROCESSING)
    given = {**own, **model.pretrained_cfg, **({} if license is None else {"license": license})}
    cfg = {key: list(v) if isinstance(v, tuple) else v for key, v in given.items() if key in known and v is not None}
    _checked_cfg(f"pretrained_cfg in {place}/{CONFIG}", {"pretrained_cfg": cfg}, own)
    return cfg


def _checked_cfg(where: str, config: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A stored `pretrained_cfg` with every value checked; what follows from the architecture is taken from `own`."""
    stored = config.get("pretrained_cfg")
    if not isinstance(stored, dict):
        raise CheckpointError(f"{where}: there is no such object")
    cfg = dict(own)
    for key, value in stored.items():
        if key in _FROM_ARCHITECTURE:
            continue
        if key in ("mean", "std") and isinstance(value, list) and [*map(_is_number, value)] == [True] * len(own[key]):
            cfg[key] = tuple(value)
        elif (
            (key in _CHOICES and value in _CHOICES[key])
            or (key in _TEXTS and isinstance(value, str))
            or (key == "crop_pct" and _is_number(value) and 0.1 <= value <= 2)
        ):
            cfg[key] = value
        else:
            raise CheckpointError(f"{where}: {key!r} has an invalid value or is no such setting")
    return cfg


def _set_label_names(model: Backbone, where: str, names: Any) -> None:
    if names is None:
        return
    texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not texts or len(names) != model.num_classes or len(set(names)) != len(names):
        raise CheckpointError(f"{where}: these are not {model.num_classes} different names")
    model.pretrained_cfg["label_names"] = tuple(names)


def _set_thresholds(model: Backbone, where: str, values: Any) -> None:
    if values is None:
        return
    numbers = isinstance(values, list) and all(map(_is_number, values))
    if not numbers or len(values) != model.num_classes:
        raise CheckpointError(f"{where}: these are not {model.num_classes} numbers")
    model.pretrained_cfg["thresholds"] = tuple(map(float, values))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read_json(path: Path) -> dict[str, Any]:
    data = _read(path)
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return data


def _read(path: Path) -> Any:
    try:
        return json.loads(_read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON ({error})") from error


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_JSON:
            raise CheckpointError(f"{path} has more than {_MAX_JSON >> 20} MiB, the limit for this file")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
