"""Published weights: found by name and tag, fetched, verified and loaded."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from hexavit.architecture import Architecture
from hexavit.checkpoints import LoadReport, load_checkpoint
from hexavit.checkpoints.adapt import classifier_keys
from hexavit.errors import HexavitError
from hexavit.hub.download import UnreachableError, fetch_first, fetch_link, verify
from hexavit.models import Weight, build_model, find_weight, list_weights, model_entry, pretrained_cfg
from hexavit.network.backbone import Backbone, FeatureBackbone

_log = logging.getLogger("hexavit")


def create_pretrained(name_or_architecture: str | Architecture, **options: Any) -> Backbone:
    """Build a model and load its published weights: `create_model(..., pretrained=True)`.

    Args:
        name_or_architecture: a name, with a tag or not, or an architecture whose name has published weights.
        **options: as for `hexavit.models.build_model`.
    """
    if isinstance(name_or_architecture, str):
        name_or_architecture = name = tagged(name_or_architecture)
    else:
        name = name_or_architecture.name
    model = build_model(name_or_architecture, **options)
    load_published(model, name)
    return model


def tagged(name: str) -> str:
    """A model's name with the tag of its weights: the tag given, or that of the model's first weights.

    Raises:
        HexavitError: the model has no published weights.
    """
    return f"{name.partition('.')[0]}.{_weight(name).tag}"


def load_published(model: nn.Module, name: str) -> LoadReport:
    """Load a model's published weights, as `create_model(name, pretrained=True)` does.

    The model's `pretrained_cfg` is replaced by that of the weights, with their preprocessing.

    Args:
        model: a model of `create_model` with that name; its parts, classes, channels and image size may differ.
        name: the model's name, with a tag or not.

    Returns:
        The report of `load_checkpoint`, with a note on the file's checksum.

    Raises:
        HexavitError: the model has no published weights.
        CheckpointError: the weights cannot be fetched, their checksum differs, or they do not fit the model.
    """
    if not isinstance(model, Backbone | FeatureBackbone):
        raise HexavitError(f"published weights need a model of create_model, not a {type(model).__name__}")
    weight = _weight(name)
    name = tagged(name)
    try:
        path = _fetch(weight)
    except UnreachableError as error:
        raise UnreachableError(
            f"{name} cannot be fetched: {error}; fetch {' or '.join(weight.urls)} by hand and "
            f"load it with hexavit.load_checkpoint(hexavit.create_model({name!r}), PATH)"
        ) from error
    checked = verify(path, weight.sha256.get(path.name))
    report = load_checkpoint(model, path, adapt=True, partial=_differs_in_parts(model.architecture, name))
    model.pretrained_cfg = {**model.pretrained_cfg, **pretrained_cfg(model.architecture, weight)}
    report = replace(report, notes=(*report.notes, *([weight.note] if weight.note else []), checked))
    if path.name not in weight.sha256:
        _log.warning("%s: %s", name, checked)
    whole = model.model if isinstance(model, FeatureBackbone) else model
    expected = classifier_keys(whole)
    new = [key for key in report.missing if key not in expected and not key.endswith("num_batches_tracked")]
    if new:
        _log.warning("%s: %d tensors are not loaded and keep their initial values, first %s", name, len(new), new[0])
    return report


def _fetch(weight: Weight) -> Path:
    if weight.hub_id is None:
        return fetch_link(str(weight.link))
    return fetch_first(weight.hub_id, weight.files, weight.revision)


def _weight(name: str) -> Weight:
    weight = find_weight(name)
    if weight is None:
        of_family = [each for each in list_weights() if model_entry(each).family == model_entry(name).family]
        others = f"; weights of its family: {', '.join(of_family[:4])}" if of_family else ""
        raise HexavitError(
            f"{name} lists no published weights: load a file with hexavit.load_checkpoint(model, path){others}"
        )
    return weight


def _differs_in_parts(architecture: Architecture, name: str) -> bool:
    """Whether an architecture differs from the named one in more than its classes, channels and image size."""
    published = model_entry(name).architecture.with_(
        num_classes=architecture.num_classes, in_chans=architecture.in_chans, img_size=architecture.img_size
    )
    return bool(published.diff(architecture))
