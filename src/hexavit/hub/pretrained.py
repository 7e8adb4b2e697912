"""Models with published weights: found by name and tag, fetched, checked, loaded."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
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
from hexavit.parts.contract import Size

_log = logging.getLogger("hexavit")


def create_model(
    name_or_architecture: str | Architecture,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    img_size: int | Size | None = None,
    pretrained: bool = False,
    features_only: bool = False,
    out_indices: int | Sequence[int] | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
) -> Any:
    """Build a model.

    Args:
        name_or_architecture: a name of `list_models()`, one with a tag of `list_weights()` behind it
            (`cvt_13.in1k_384`: built at the size and with the classes of those weights), or an `Architecture`.
        num_classes: width of the answer; None keeps the architecture's (1000 for named models), 0 gives features.
        in_chans: channels of the images; None keeps the architecture's (3).
        img_size: side or (H, W) in pixels that it is built at.
        pretrained: load the weights of the tag, or the model's first. Another number of classes leaves the head at
            its start, other channels and sizes adapt the first convolution and the position tables, and with other
            parts the weights of all that stayed are loaded.
        features_only: give a list of feature maps (B, C, H, W) instead of logits, with no head.
        out_indices: which maps then: the last n, or by index into `feature_info`; None for all.
        overrides: edits by paths, `"stages.2.attention.stride_kv=1"`; see `hexavit.architecture.editing.override`.

    Returns:
        A `Backbone`, or with `features_only` a `FeatureBackbone`.

    Raises:
        ArchitectureError: an unknown name, tag, part or option, or parts that do not fit together.
        HexavitError: `pretrained` for a model that lists no weights.
        CheckpointError: weights that cannot be fetched, or are not the published ones.
    """
    if out_indices is not None and not features_only:
        raise HexavitError("out_indices chooses feature maps: it needs features_only=True")
    given = name_or_architecture
    if pretrained and isinstance(given, str):
        given = tagged(given)
    model = build_model(given, num_classes=num_classes, in_chans=in_chans, img_size=img_size, overrides=overrides)
    if pretrained:
        load_published(model, given if isinstance(given, str) else given.name)
    return FeatureBackbone(model, out_indices) if features_only else model


def tagged(name: str) -> str:
    """A model's name with the tag of the weights that it means.

    Raises:
        HexavitError: it lists no weights.
    """
    return f"{name.partition('.')[0]}.{_weight(name).tag}"


def load_published(model: nn.Module, name: str) -> LoadReport:
    """Load a model's published weights, as `create_model(name, pretrained=True)` does, and tell what was done.

    The model's `pretrained_cfg` becomes the weights': their preprocessing travels with them.

    Args:
        model: what `create_model` gives, of that name, with parts, classes, channels and a size of its own.
        name: a model's name, with a tag or not.

    Raises:
        HexavitError: the model lists no weights.
        CheckpointError: they cannot be fetched, are not the published ones, or do not fit.
    """
    if not isinstance(model, Backbone | FeatureBackbone):
        raise HexavitError(f"weights are loaded into a model of create_model, not into a {type(model).__name__}")
    weight = _weight(name)
    name = tagged(name)
    try:
        path = _fetched(weight)
    except UnreachableError as error:
        raise UnreachableError(
            f"{name} cannot be fetched: {error}; fetch {' or '.join(weight.urls)} by hand and "
            f"load it with hexavit.load_checkpoint(hexavit.create_model({name!r}), PATH)"
        ) from error
    checked = verify(path, weight.sha256.get(path.name))
    report = load_checkpoint(model, path, adapt=True, partial=_has_own_parts(model.architecture, name))
    model.pretrained_cfg = pretrained_cfg(model.architecture, weight)
    report = replace(report, notes=(*report.notes, *([weight.note] if weight.note else []), checked))
    if path.name not in weight.sha256:
        _log.warning("%s: %s", name, checked)
    trunk = model.model if isinstance(model, FeatureBackbone) else model
    own = classifier_keys(trunk)
    if at_start := [key for key in report.missing if key not in own and not key.endswith("num_batches_tracked")]:
        _log.warning("%s: %d tensors of other parts stay at their start, %s first", name, len(at_start), at_start[0])
    return report


def _fetched(weight: Weight) -> Path:
    if weight.hub_id is None:
        return fetch_link(str(weight.link))
    return fetch_first(weight.hub_id, weight.files, weight.revision)


def _weight(name: str) -> Weight:
    weight = find_weight(name)
    if weight is None:
        of_family = [each for each in list_weights() if model_entry(each).family == model_entry(name).family]
        there = f"; of its family there are {', '.join(of_family[:4])}" if of_family else ""
        raise HexavitError(
            f"{name} lists no published weights: load a file with hexavit.load_checkpoint(model, path){there}"
        )
    return weight


def _has_own_parts(architecture: Architecture, name: str) -> bool:
    """Whether it is another than the named one in more than its classes, channels and size."""
    published = model_entry(name).architecture.with_(
        num_classes=architecture.num_classes, in_chans=architecture.in_chans, img_size=architecture.img_size
    )
    return bool(published.diff(architecture))
