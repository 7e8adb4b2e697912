"""The registry of named models: architecture, published figures and weights, preprocessing."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hexavit.architecture import Architecture, image_size
from hexavit.errors import ArchitectureError, HexavitError, nearest
from hexavit.models.layouts import filled
from hexavit.models.weights import Preprocessing, Weight
from hexavit.network.backbone import Backbone
from hexavit.parts.contract import Size
from hexavit.parts.registry import KINDS, part_class, part_names


@dataclass(frozen=True)
class Published:
    """Figures as published.

    Attributes:
        source: where they are published.
        img_size: side of the images in pixels.
        params_m: parameters in millions.
        gflops: GFLOPs, by which authors mean 10^9 multiply-adds.
        top1: accuracy on ImageNet-1k's validation set, as a fraction of 1.
        trained_on: training data.
    """

    source: str
    img_size: int
    params_m: float | None = None
    gflops: float | None = None
    top1: float | None = None
    trained_on: str = "ImageNet-1k"


@dataclass(frozen=True)
class Entry:
    """One named model. `pretrained=True` loads the first of its weights."""

    architecture: Architecture
    family: str
    summary: str
    paper: str
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    published: tuple[Published, ...] = ()
    weights: tuple[Weight, ...] = ()


_MODELS: dict[str, Entry] = {}
WEIGHT_FILTERS = ("license", "trained_on")
"""Filters of `list_models` on the weights of a model."""


def register(entry: Entry) -> None:
    """Register a model under the name of its architecture.

    Raises:
        ArchitectureError: the name is taken, or has a dot, which separates names from tags of weights.
    """
    name = entry.architecture.name
    if "." in name:
        raise ArchitectureError(
            f"a model's name must not have a dot, which separates it from the tag of weights: {name!r}"
        )
    if name in _MODELS:
        raise ArchitectureError(f"there is already a model {name!r}")
    _MODELS[name] = entry


@dataclass(frozen=True)
class Family:
    """Registers the models of one family.

    Attributes:
        name: name of the family.
        paper: its link.
        preprocessing: default of its models.
    """

    name: str
    paper: str
    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    def register(
        self,
        architecture: Architecture,
        summary: str,
        *published: Published,
        weights: Sequence[Weight] = (),
        preprocessing: Preprocessing | None = None,
    ) -> None:
        """Register one model; the arguments are the fields of `Entry`."""
        chosen = preprocessing or self.preprocessing
        register(Entry(architecture, self.name, summary, self.paper, chosen, published, tuple(weights)))

    def register_nano(self, architecture: Architecture, size: str) -> None:
        """Register a small model without published figures; `size` is its number of parameters.

        The border of a small image is not cut for evaluation: it is a part of what the image shows.
        """
        summary = f"{size} parameters, for small images and quick studies"
        register(Entry(architecture, self.name, summary, self.paper, Preprocessing(crop_pct=1.0)))


def model_entry(name: str) -> Entry:
    """The entry of a named model; a tag behind the name is ignored.

    Raises:
        ArchitectureError: no such model, with the nearest name.
    """
    model = name.partition(".")[0]
    if model not in _MODELS:
        raise ArchitectureError(f"there is no model {model!r}: {nearest(model, _MODELS)}")
    return _MODELS[model]


def find_weight(name: str) -> Weight | None:
    """The weights of a name: those of its tag (`cvt_13.in1k_384`), else the first of the model, or None.

    Raises:
        ArchitectureError: no such model, or no such tag.
    """
    entry, tag = model_entry(name), name.partition(".")[2]
    if not tag:
        return entry.weights[0] if entry.weights else None
    found = next((weight for weight in entry.weights if weight.tag == tag), None)
    if found is None:
        known = nearest(tag, (weight.tag for weight in entry.weights))
        raise ArchitectureError(f"{entry.architecture.name} has no weights under the tag {tag!r}: {known}")
    return found


def list_models(pattern: str = "*", **filters: str) -> list[str]:
    """Names of models that match a shell pattern, in the order of their registration: by family, small to large.

    Args:
        pattern: such as `cvt_*`.
        **filters: `family="cvt"`; a kind of part and the name of a part that the model uses, in a stage or inside
            another part, such as `attention="conv_projection"` or `head="pool"`; `license="apache-2.0"` and
            `trained_on="ImageNet-22k"` for models with published weights that satisfy both.

    Raises:
        HexavitError: an unknown filter, an unknown part, or a licence or data that no weights have.
    """
    of_weights = {key: filters.pop(key) for key in WEIGHT_FILTERS if key in filters}
    known: dict[str, Iterable[str]] = {kind: part_names(kind) for kind in KINDS}
    known["family"] = {entry.family for entry in _MODELS.values()}
    for key, value in filters.items():
        if key not in known:
            raise HexavitError(f"there is no filter {key!r}: {nearest(key, [*known, *WEIGHT_FILTERS])}")
        if value not in known[key]:
            raise HexavitError(f"there is no {key} {value!r}: {nearest(value, known[key])}")
    names = [name for name, entry in _MODELS.items() if fnmatch.fnmatch(name, pattern) and _matches(entry, filters)]
    if not of_weights:
        return names
    having = {name.partition(".")[0] for name in list_weights(**of_weights)}
    return [name for name in names if name in having]


def list_weights(pattern: str = "*", *, license: str | None = None, trained_on: str | None = None) -> list[str]:
    """Published weights as `model.tag`, in the order of `list_models`; the first of each model is its default.

    Args:
        pattern: such as `vit_*.augreg_*`.
        license: licence of the weights; case is ignored.
        trained_on: data on which they were trained; case is ignored.

    Raises:
        HexavitError: a licence or data that no weights have.
    """
    every = {f"{name}.{weight.tag}": weight for name, entry in _MODELS.items() for weight in entry.weights}
    found = [name for name in every if fnmatch.fnmatch(name, pattern)]
    for key, value in (("license", license), ("trained_on", trained_on)):
        if value is not None:
            known = {word for weight in every.values() for word in _values(weight, key)}
            if value.lower() not in map(str.lower, known):
                raise HexavitError(f"no weights have {key} {value!r}: {nearest(value, known)}")
            found = [name for name in found if value.lower() in map(str.lower, _values(every[name], key))]
    return found


def _values(weight: Weight, key: str) -> tuple[str, ...]:
    return (weight.license,) if key == "license" else weight.trained_on


def _matches(entry: Entry, filters: Mapping[str, str]) -> bool:
    return not filters or {("family", entry.family), *parts_of(entry.architecture)} >= filters.items()


def parts_of(architecture: Architecture) -> dict[tuple[str, str], None]:
    """The parts that a model uses, as (kind, name) in order, with the parts inside other parts."""
    used: dict[tuple[str, str], None] = {}
    for _, kind, part in architecture.places():
        used[kind, part.name] = None
        inside = getattr(part_class(kind, part.name), "inside", None)
        used |= dict.fromkeys(inside(filled(kind, part)) if inside else ())
    return used


def resolve(
    name_or_architecture: str | Architecture,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    img_size: int | Size | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
) -> Architecture:
    """The architecture of a name, or a given one, with other classes, channels, size, and overrides.

    A tag behind the name gives the image size and the number of classes of those weights.
    """
    architecture = name_or_architecture
    if isinstance(architecture, str):
        weight = find_weight(architecture) if "." in architecture else None
        architecture = model_entry(architecture).architecture
        if weight is not None:
            architecture = architecture.with_(num_classes=weight.num_classes, img_size=(weight.img_size,) * 2)
    if not isinstance(architecture, Architecture):
        raise ArchitectureError(f"a model is given by its name or as an Architecture, not {name_or_architecture!r}")
    size = None if img_size is None else image_size(img_size)
    return architecture.with_(num_classes=num_classes, in_chans=in_chans, img_size=size).override(overrides)


def build_model(
    name_or_architecture: str | Architecture,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    img_size: int | Size | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
) -> Backbone:
    """Build a model with initial weights; the arguments are those of `hexavit.create_model`."""
    architecture = resolve(
        name_or_architecture, num_classes=num_classes, in_chans=in_chans, img_size=img_size, overrides=overrides
    )
    tagged = isinstance(name_or_architecture, str) and "." in name_or_architecture
    model = Backbone(architecture)
    weight = find_weight(str(name_or_architecture)) if tagged else None
    model.pretrained_cfg = {**pretrained_cfg(architecture, weight), "pool_size": model.grid_size}
    return model


def pretrained_cfg(architecture: Architecture, weight: Weight | None = None) -> dict[str, Any]:
    """timm's description of a model: its input, first convolution and classifier.

    Args:
        architecture: of the model.
        weight: gives the preprocessing and the licence; None for the model's own preprocessing.
    """
    entry = _MODELS.get(architecture.name)
    preprocessing = weight.preprocessing if weight else entry.preprocessing if entry else Preprocessing()
    chans = architecture.in_chans
    first_conv = getattr(part_class("tokens", architecture.stages[0].tokens.name), "first_conv", None)
    head = part_class("head", architecture.head.name)
    classifiers = tuple(f"head.{name}" for name in getattr(head, "classifiers", ("fc",)))
    mean, std = preprocessing.mean, preprocessing.std
    if len(mean) != chans:  # the mean of the channels' statistics
        mean, std = (sum(mean) / len(mean),) * chans, (sum(std) / len(std),) * chans
    of_weight = {} if weight is None else {"tag": weight.tag, "license": weight.license}
    if weight is not None:
        of_weight |= {"hf_hub_id": weight.hub_id} if weight.hub_id else {"url": str(weight.link)}
    return {
        "architecture": architecture.name,
        **of_weight,
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
