"""The named models: a row of data each, with its published figures and how its images are prepared."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hexavit._backbone import Backbone, FeatureBackbone
from hexavit.architecture import Architecture, image_size
from hexavit.errors import ArchitectureError, HexavitError, nearest
from hexavit.parts.contract import Size
from hexavit.parts.registry import KINDS, part_class, part_names

IMAGENET_MEAN_STD = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
INCEPTION_MEAN_STD = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Published:
    """Figures as their authors print them: millions of parameters, GFLOPs (which are multiply-adds), top-1 as a
    fraction of 1 on ImageNet-1k's validation set at `img_size`, and where they stand."""

    source: str
    img_size: int
    params_m: float | None = None
    gflops: float | None = None
    top1: float | None = None
    trained_on: str = "ImageNet-1k"


@dataclass(frozen=True)
class Preprocessing:
    """How the authors prepare an image for evaluation: the resized side is `img_size / crop_pct`, then a centre crop
    (`center`), or a straight resize to (H, W) without regard to its shape (`squash`)."""

    mean: tuple[float, ...] = IMAGENET_MEAN_STD[0]
    std: tuple[float, ...] = IMAGENET_MEAN_STD[1]
    interpolation: str = "bicubic"
    crop_pct: float = 0.875
    crop_mode: str = "center"


@dataclass(frozen=True)
class Entry:
    """One named model."""

    architecture: Architecture
    family: str
    summary: str
    paper: str
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    published: tuple[Published, ...] = ()


_MODELS: dict[str, Entry] = {}


def register(entry: Entry) -> None:
    """Add a model under its architecture's name.

    Raises:
        ArchitectureError: the name is taken.
    """
    name = entry.architecture.name
    if name in _MODELS:
        raise ArchitectureError(f"there is already a model {name!r}")
    _MODELS[name] = entry


def model_entry(name: str) -> Entry:
    """A named model's entry, or a refusal with the nearest name."""
    if name not in _MODELS:
        raise ArchitectureError(f"there is no model {name!r}: {nearest(name, _MODELS)}")
    return _MODELS[name]


def list_models(pattern: str = "*", **filters: str) -> list[str]:
    """Names of models that match a shell pattern, in the order of their registration: by family, small to large.

    Args:
        pattern: as in `cvt_*`.
        **filters: `family="cvt"`, or a kind of part with a part's name that some stage must use:
            `attention="conv_projection"`, `head="pool"`.

    Raises:
        HexavitError: an unknown filter, or a part that no shelf has.
    """
    for key, value in filters.items():
        if key not in (*KINDS, "family"):
            raise HexavitError(f"there is no filter {key!r}: {nearest(key, [*KINDS, 'family'])}")
        known = part_names(key) if key in KINDS else sorted({entry.family for entry in _MODELS.values()})
        if value not in known:
            raise HexavitError(f"there is no {key} {value!r}: {nearest(value, known)}")
    return [name for name, entry in _MODELS.items() if fnmatch.fnmatch(name, pattern) and _matches(entry, filters)]


def _matches(entry: Entry, filters: Mapping[str, str]) -> bool:
    used = {(kind, part.name) for _, kind, part in entry.architecture.places()} | {("family", entry.family)}
    return all(item in used for item in filters.items())


def resolve(
    name_or_architecture: str | Architecture,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    img_size: int | Size | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
) -> Architecture:
    """The architecture of a name (or one given), with other classes, channels, size, and overrides."""
    architecture = name_or_architecture
    if isinstance(architecture, str):
        architecture = model_entry(architecture).architecture
    size = None if img_size is None else image_size(img_size)
    return architecture.with_(num_classes=num_classes, in_chans=in_chans, img_size=size).override(overrides)


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
        name_or_architecture: a name of `list_models()`, or an `Architecture`.
        num_classes: width of the answer; None keeps the architecture's (1000 for named models), 0 gives features.
        in_chans: channels of the images; None keeps the architecture's (3).
        img_size: side or (H, W) in pixels that it is built at.
        pretrained: start from published weights.
        features_only: give a list of feature maps (B, C, H, W) instead of logits, with no head.
        out_indices: which maps then: the last n, or by index into `feature_info`; None for all.
        overrides: edits by paths, `"stages.2.attention.stride_kv=1"`; see `hexavit.editing.override`.

    Returns:
        A `Backbone`, or with `features_only` a `FeatureBackbone`.

    Raises:
        ArchitectureError: an unknown name, part or option, or parts that do not fit together.
        HexavitError: `pretrained` for a model that lists no weights.
    """
    architecture = resolve(
        name_or_architecture, num_classes=num_classes, in_chans=in_chans, img_size=img_size, overrides=overrides
    )
    if pretrained:
        raise HexavitError(
            f"{architecture.name} lists no published weights yet: load a file with hexavit.load_checkpoint(model, path)"
        )
    model = Backbone(architecture)
    entry = _MODELS.get(architecture.name)
    model.pretrained_cfg = _pretrained_cfg(architecture, entry.preprocessing if entry else Preprocessing())
    if out_indices is not None and not features_only:
        raise HexavitError("out_indices chooses feature maps: it needs features_only=True")
    return FeatureBackbone(model, out_indices) if features_only else model


def _pretrained_cfg(architecture: Architecture, preprocessing: Preprocessing) -> dict[str, Any]:
    """timm's description of a model's input, its first convolution and its classifier."""
    chans = architecture.in_chans
    first_conv = getattr(part_class("tokens", architecture.stages[0].tokens.name), "first_conv", None)
    head = part_class("head", architecture.head.name)
    classifiers = tuple(f"head.{name}" for name in getattr(head, "classifiers", ("fc",)))
    mean, std = preprocessing.mean, preprocessing.std
    if len(mean) != chans:  # grey or many-channel images: the mean of the channels' statistics
        mean, std = (sum(mean) / len(mean),) * chans, (sum(std) / len(std),) * chans
    return {
        "architecture": architecture.name,
        "num_classes": architecture.num_classes,
        "input_size": (chans, *architecture.img_size),
        "fixed_input_size": False,
        "interpolation": preprocessing.interpolation,
        "crop_pct": preprocessing.crop_pct,
        "crop_mode": preprocessing.crop_mode,
        "mean": mean,
        "std": std,
        "first_conv": f"stages.0.tokens.{first_conv}" if first_conv else None,
        "classifier": classifiers[0] if len(classifiers) == 1 else classifiers,
    }
