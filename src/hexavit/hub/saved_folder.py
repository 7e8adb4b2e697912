"""A model as a folder: architecture, weights, preprocessing, class names and a card, here or on the hub."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from hexavit.architecture import Architecture
from hexavit.checkpoints import load_checkpoint
from hexavit.checkpoints.writer import write_json, write_state, write_text
from hexavit.errors import CheckpointError, HexavitError
from hexavit.hub.download import fetch, sha256_of
from hexavit.hub.model_card import MARK, model_card
from hexavit.hub.pretrained import create_model
from hexavit.models import build_model, list_weights, pretrained_cfg
from hexavit.models.registry import find_weight
from hexavit.network.backbone import Backbone

ARCHITECTURE, WEIGHTS, CONFIG, CARD = "architecture.json", "model.safetensors", "config.json", "README.md"
_OF_ARCHITECTURE = ("num_classes", "input_size", "fixed_input_size", "first_conv", "classifier")
_WORDS = ("architecture", "tag", "hf_hub_id", "license")
_CHOICES = {"interpolation": ("bilinear", "bicubic"), "crop_mode": ("center", "squash")}
_MAX_JSON = 64 << 20


def save_pretrained(
    model: nn.Module,
    folder: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    license: str | None = None,
    metrics: Mapping[str, float] | None = None,
) -> Path:
    """Write a model as a folder that `from_pretrained` reads back, bit for bit.

    It gets `architecture.json`, `model.safetensors`, `config.json` (preprocessing, class names, checksums of the other
    two) and a card, `README.md`. Each file is written whole or not at all, `config.json` last: a folder whose writing
    was broken off is refused when it is read. A card that you have rewritten is kept.

    Args:
        model: what `create_model` gives.
        folder: made if need be; what else is in it stays.
        class_names: in the order of the logits; by default those that `model.pretrained_cfg` has under `label_names`.
        license: of the weights, as an SPDX word; by default that of the weights it started from.
        metrics: figures to show on the card, such as `{"accuracy": 0.991}` (fractions of 1).

    Raises:
        HexavitError: a model of feature maps, or another number of names than of classes.
        CheckpointError: the folder holds another library's model, or cannot be written.
    """
    if not isinstance(model, Backbone):
        raise HexavitError(f"what is saved is a whole model of create_model, not a {type(model).__name__}")
    place = Path(folder)
    if (place / CONFIG).exists() and _json(place / CONFIG).get("library_name") != "hexavit":
        raise CheckpointError(f"{place} holds another library's {CONFIG}: choose another folder")
    names = class_names if class_names is not None else model.pretrained_cfg.get("label_names")
    if names is not None and (len(names) != model.num_classes or len(set(names)) != len(names)):
        raise HexavitError(f"{model.num_classes} classes need as many names, all different, not {len(names)}")
    cfg = _to_store(place, model, license)
    write_text(model.architecture.to_json() + "\n", place / ARCHITECTURE)
    write_state(model.state_dict(), place / WEIGHTS)
    if not (place / CARD).exists() or MARK in _text(place / CARD):
        write_text(model_card(model, cfg, names, metrics or {}), place / CARD)
    config = {
        "library_name": "hexavit",
        "format": 1,
        "architecture": model.architecture.name,
        "num_classes": model.num_classes,
        "pretrained_cfg": cfg,
        **({} if names is None else {"label_names": list(names)}),
        "sha256": {file: sha256_of(place / file) for file in (ARCHITECTURE, WEIGHTS)},
    }
    write_json(config, place / CONFIG)
    return place


def from_pretrained(path_or_repo_id: str | Path, *, revision: str | None = None) -> Backbone:
    """A model from a folder of `save_pretrained`, or from a repository on the hub that `push_to_hub` made.

    Args:
        path_or_repo_id: a folder if there is one of that name, else OWNER/NAME on the hub. Repositories of published
            weights (`microsoft/cvt-13`) are known as well.
        revision: a branch, tag or commit of the repository.

    Returns:
        The model in evaluation mode; `model.pretrained_cfg` holds its preprocessing, and its class names under
        `label_names` if it has any.

    Raises:
        CheckpointError: no such folder or repository, one of another library, or files that do not belong together.
        ArchitectureError: an architecture with parts that are not there.
    """
    folder = Path(path_or_repo_id)
    if folder.is_dir():
        if not is_pretrained(folder):
            raise CheckpointError(
                f"{folder} holds no hexavit model ({ARCHITECTURE}, {WEIGHTS}, {CONFIG}): for other weights make the "
                "model with create_model, and load_checkpoint them"
            )
        return _read(str(folder), lambda file: folder / file)
    repo_id = str(path_or_repo_id)
    if folder.exists() or repo_id.count("/") != 1 or repo_id.startswith((".", "/", "~")):
        raise CheckpointError(f"{repo_id} is neither a folder of save_pretrained nor OWNER/NAME on the hub")
    for name in list_weights():
        weight = find_weight(name)
        if weight is not None and weight.hub_id == repo_id and revision in (None, weight.revision):
            published: Backbone = create_model(name, pretrained=True)
            return published.eval()

    def fetched(file: str) -> Path:
        path = fetch(repo_id, file, revision)
        if path is None:
            raise CheckpointError(f"{repo_id} on the hub holds no hexavit model, as it has no {file}")
        return path

    return _read(repo_id, fetched)


def is_pretrained(folder: Path) -> bool:
    """Whether a folder looks like one of `save_pretrained`'s."""
    return all((folder / file).is_file() for file in (ARCHITECTURE, WEIGHTS, CONFIG))


def _read(where: str, file: Callable[[str], Path]) -> Backbone:
    config = _json(file(CONFIG))
    if config.get("library_name") != "hexavit" or config.get("format") != 1:
        raise CheckpointError(f'{where}: {CONFIG} does not say "library_name": "hexavit" and "format": 1')
    sums, paths = config.get("sha256"), {name: file(name) for name in (ARCHITECTURE, WEIGHTS)}
    for name, path in paths.items():
        if not isinstance(sums, dict) or sums.get(name) != sha256_of(path):
            raise CheckpointError(f"{where}: {name} is not the file that {CONFIG} was written for")
    model = build_model(Architecture.from_json(_text(paths[ARCHITECTURE])))
    load_checkpoint(model, paths[WEIGHTS])
    model.pretrained_cfg = _cfg(where, config, model.pretrained_cfg)
    names = config.get("label_names")
    if names is not None:
        if not _texts(names) or len(names) != model.num_classes or len(set(names)) != len(names):
            raise CheckpointError(f"{where}: label_names in {CONFIG} are not {model.num_classes} different names")
        model.pretrained_cfg["label_names"] = tuple(names)
    return model.eval()


def _to_store(place: Path, model: Backbone, license: str | None) -> dict[str, Any]:
    """What of a model's `pretrained_cfg` is kept: nothing that reading would refuse."""
    own = pretrained_cfg(model.architecture)
    known = (*_OF_ARCHITECTURE, *_WORDS, *_CHOICES, "crop_pct", "mean", "std")
    said = {**own, **model.pretrained_cfg, **({} if license is None else {"license": license})}
    cfg = {key: list(v) if isinstance(v, tuple) else v for key, v in said.items() if key in known and v is not None}
    _cfg(str(place), {"pretrained_cfg": cfg}, own)
    return cfg


def _cfg(where: str, config: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The stored preprocessing, where each value is of its kind; what the architecture says is not taken from it."""
    stored = config.get("pretrained_cfg")
    if not isinstance(stored, dict):
        raise CheckpointError(f"{where}: {CONFIG} has no pretrained_cfg")
    cfg = dict(own)
    for key, value in stored.items():
        if key in _OF_ARCHITECTURE:
            continue
        if key in ("mean", "std") and isinstance(value, list) and [*map(_is_number, value)] == [True] * len(own[key]):
            cfg[key] = tuple(value)
        elif (
            (key in _CHOICES and value in _CHOICES[key])
            or (key in _WORDS and isinstance(value, str))
            or (key == "crop_pct" and _is_number(value) and 0.1 <= value <= 2)
        ):
            cfg[key] = value
        else:
            raise CheckpointError(f"{where}: pretrained_cfg in {CONFIG} has {key!r} with a value that it cannot have")
    return cfg


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON ({error})") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return data


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_JSON:
            raise CheckpointError(f"{path} is larger than any such file")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
