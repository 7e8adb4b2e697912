"""`create_model`: build a model from a name or an architecture, and on request load published weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hexavit.architecture import Architecture
from hexavit.errors import HexavitError
from hexavit.models import build_model, resolve
from hexavit.network.backbone import FeatureBackbone
from hexavit.parts.contract import Size


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
    drop_rate: float | None = None,
    drop_path_rate: float | None = None,
) -> Any:
    """Build a model.

    Args:
        name_or_architecture: a name of `list_models()`, a name with a tag of `list_weights()`
            (`cvt_13.in1k_384`: built with the image size and classes of those weights), or an `Architecture`.
        num_classes: number of classes; None for the architecture's (1000 for named models), 0 for pooled features.
        in_chans: number of image channels; None for the architecture's (3).
        img_size: side or (H, W) in pixels of the images that the model is built for; None for the architecture's.
        pretrained: load published weights: those of the tag, or the first of the model. If `num_classes` differs, the
            classifier is not loaded; if `in_chans` or `img_size` differ, the first convolution and the position tables
            are adapted; if `overrides` replaces parts, the weights of all other parts are loaded.
        features_only: return a model that gives a list of feature maps (B, C, H, W) and has no head.
        out_indices: which feature maps: the last n for a number, else by index into `feature_info`; None for all.
        overrides: edits by path, such as `"stages.2.attention.stride_kv=1"`; see
            `hexavit.architecture.editing.override`. They have precedence over `drop_rate` and `drop_path_rate`.
        drop_rate: dropout rate before the classifier; None for the architecture's.
        drop_path_rate: drop path rate of the stages that use drop path, or of all stages if none does; None for the
            architecture's rates.

    Returns:
        A `Backbone`, or with `features_only` a `FeatureBackbone`.

    Raises:
        ArchitectureError: the name, tag, a part or an option does not exist, or the parts do not fit together.
        HexavitError: `pretrained` for a model without published weights.
        CheckpointError: the weights cannot be fetched, or their checksum differs.
    """
    if out_indices is not None and not features_only:
        raise HexavitError("out_indices selects feature maps: pass features_only=True with it")
    given = name_or_architecture
    edits = _drop_edits(given, drop_rate, drop_path_rate)
    if isinstance(overrides, Mapping):
        overrides = {**edits, **overrides}
    elif edits:
        overrides = [*(f"{path}={rate}" for path, rate in edits.items()), *overrides]
    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_chans, "img_size": img_size}
    if pretrained:
        from hexavit.hub.pretrained import create_pretrained  # not imported where nothing is fetched

        model = create_pretrained(given, overrides=overrides, **options)
    else:
        model = build_model(given, overrides=overrides, **options)
    return FeatureBackbone(model, out_indices) if features_only else model


def _drop_edits(
    name_or_architecture: str | Architecture, drop_rate: float | None, drop_path_rate: float | None
) -> dict[str, float]:
    """Both rates as edits by path."""
    edits = {} if drop_rate is None else {"head.drop": drop_rate}
    if drop_path_rate is not None:
        stages = resolve(name_or_architecture).stages
        dropping = [i for i, stage in enumerate(stages) if stage.drop_path]  # only the last stage of CvT
        edits |= {f"stages.{i}.drop_path": drop_path_rate for i in dropping or range(len(stages))}
    return edits
