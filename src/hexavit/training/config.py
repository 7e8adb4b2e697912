"""The settings of a training run: typed, validated, and saved as ``config.yaml``."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from hexavit.data.source import Augment, OnBadImage
from hexavit.errors import HexavitError, nearest
from hexavit.inference.device import Device

Precision = Literal["float32", "bfloat16", "float16"]
Distillation = Literal["hard", "soft"]


class ConfigError(HexavitError):
    """A setting is unknown, or its value is not valid."""


_RANGES: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
    (
        ("epochs", "batch_size", "img_size", "in_chans", "devices", "micro_batch", "train_images"),
        lambda x: x >= 1,
        "at least 1",
    ),
    (("weight_decay", "warmup_epochs", "clip_grad", "mixup", "cutmix", "magnitude"), lambda x: x >= 0, "at least 0"),
    (("freeze", "workers", "patience", "save_every"), lambda x: x >= 0, "at least 0"),
    (("lr", "head_lr", "distillation_tau"), lambda x: x > 0, "above 0"),
    (("label_smoothing", "drop_path", "ema"), lambda x: 0 <= x < 1, "at least 0 and below 1"),
    (("layer_decay",), lambda x: 0 < x <= 1, "above 0 and at most 1"),
    (("erasing", "distillation_alpha"), lambda x: 0 <= x <= 1, "between 0 and 1"),
    (("val_fraction",), lambda x: 0 < x < 1, "between 0 and 1"),
)
"""Names of settings, the condition that a value satisfies, and the condition in words."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of a training run. Each is an option of ``hexavit train`` and a key of a recipe.

    Raises:
        ConfigError: a value is not valid for any data and model.
    """

    model: Annotated[str, "a name from `hexavit list`"]
    data: Annotated[str, "`digits`, a folder of class folders (or of parts with such), a .csv, or cifar10:FOLDER"]
    overrides: Annotated[tuple[str, ...], "edits of the architecture, each PATH=VALUE"] = ()
    start: Annotated[str | None, "initial weights: a published model's name, a run, a saved folder, or a file"] = None
    entry: Annotated[str | None, "entry of the file of initial weights that holds them, such as model_ema"] = None
    prefix: Annotated[str | None, "prefix of the keys to read of initial weights, such as student.encoder"] = None
    img_size: Annotated[tuple[int, int] | None, "height and width in pixels; by default as suits the data"] = None
    in_chans: Annotated[int | None, "channels of the input, such as 1 or 3; by default those of the data"] = None
    epochs: Annotated[int, "passes over the training images"] = 20
    batch_size: Annotated[int, "images in one step, over all devices"] = 64
    lr: Annotated[float, "highest learning rate of AdamW"] = 1e-3
    head_lr: Annotated[float, "learning rate of the classifiers, as a multiple of lr"] = 1.0
    layer_decay: Annotated[float, "learning rate of each layer relative to the next one; 1 makes all equal"] = 1.0
    freeze: Annotated[int, "number of first stages whose weights stay fixed; all of them: only the head is trained"] = 0
    weight_decay: Annotated[float, "weight decay of AdamW; norms, biases and position tables have none"] = 0.05
    warmup_epochs: Annotated[float, "epochs in which the learning rate rises linearly, before its cosine decay"] = 2.0
    clip_grad: Annotated[float, "largest norm of the gradient; 0 turns clipping off"] = 1.0
    drop_path: Annotated[float | None, "highest rate of drop path (stochastic depth); by default the model's own"] = (
        None
    )
    label_smoothing: Annotated[float, "share of the target spread evenly over the classes"] = 0.1
    mixup: Annotated[float, "alpha of Mixup; 0 turns it off"] = 0.0
    cutmix: Annotated[float, "alpha of CutMix; 0 turns it off"] = 0.0
    augment: Annotated[Augment, "none, shift (small affine), crop (and flip), rand (RandAugment, erasing)"] = "auto"
    magnitude: Annotated[int, "strength of RandAugment, up to 10; used by `rand` only"] = 9
    erasing: Annotated[
        float | None, "share of images with an erased rectangle; by default 0.25 with `rand`, else 0"
    ] = None
    teacher: Annotated[str | None, "a run, folder or model from which a model with head=two_heads is distilled"] = None
    distillation: Annotated[Distillation, "hard: the teacher's most probable class; soft: its probabilities"] = "hard"
    distillation_alpha: Annotated[float, "weight of the distillation loss"] = 0.5
    distillation_tau: Annotated[float, "the temperature of soft distillation"] = 1.0
    label_maps: Annotated[str | None, "a folder of label maps, one per image, for a model with head=token_labels"] = (
        None
    )
    mix_token: Annotated[bool, "mix the tokens of two images (MixToken), for a model with head=token_labels"] = False
    val_fraction: Annotated[float, "share of each class used for validation, where the data has no val part"] = 0.2
    split_seed: Annotated[int, "seed of that split; `seed` does not change it"] = 0
    train_images: Annotated[int | None, "number of training images, the same share of each class; by default all"] = (
        None
    )
    on_bad_image: Annotated[
        OnBadImage, "whether broken images, found before training starts, are an error or left out"
    ] = "error"
    seed: Annotated[int, "seed of initial weights, order, augmentation and dropout"] = 0
    workers: Annotated[int | None, "processes that read images; results do not depend on them"] = None
    precision: Annotated[Precision, "precision of matrix products; weights stay in float32"] = "float32"
    device: Annotated[Device, "where to train"] = "auto"
    devices: Annotated[int, "processes among which each batch is split, one device each"] = 1
    micro_batch: Annotated[
        int | None, "images in one forward pass of a device; gradients are added up over the batch"
    ] = None
    ema: Annotated[float, "decay of the moving average of the weights, which is validated and saved; 0: none"] = 0.0
    patience: Annotated[int, "stop after so many epochs without a better validation accuracy; 0 never stops early"] = 0
    save_every: Annotated[float, "seconds between checkpoints within an epoch; 0 is after every step"] = 60.0
    wandb: Annotated[str | None, "also log to this project of Weights & Biases"] = None

    def __post_init__(self) -> None:
        for name, value in vars(self).copy().items():
            object.__setattr__(self, name, checked_value(name, value))
        for names, holds, rule in _RANGES:
            for name in names:
                value = getattr(self, name)
                for number in value if isinstance(value, tuple) else () if value is None else (value,):
                    if not math.isfinite(number):
                        raise ConfigError(f"{name} is a finite number, not {number}")
                    if not holds(number):
                        raise ConfigError(f"{name} is {rule}, not {number}")
        of_tokens = self.label_maps is not None or self.mix_token
        if self.start is None and (self.entry is not None or self.prefix is not None):
            raise ConfigError("entry and prefix are of a file of initial weights: give it as start (--from)")
        if of_tokens and (self.mixup or self.cutmix):
            raise ConfigError("label_maps and mix_token cannot be combined with mixup or cutmix: set these to 0")
        if of_tokens and self.teacher is not None:
            raise ConfigError("teacher needs another head than label_maps and mix_token: choose one")
        if self.batch_size < self.devices:
            raise ConfigError(f"a batch_size of {self.batch_size} cannot be split among {self.devices} devices")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> TrainConfig:
        """From settings by name; the others have their defaults.

        Raises:
            ConfigError: a name is unknown, a value has the wrong type, or a required one is missing.
        """
        checked = {name: checked_value(name, value) for name, value in values.items()}
        missing = [name for name, each in settings().items() if each.default is MISSING and name not in checked]
        if missing:
            raise ConfigError(f"training needs {' and '.join(missing)}: pass --{' and --'.join(missing)}")
        return cls(**checked)

    def to_yaml(self) -> str:
        """All settings as a recipe."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


@dataclass(frozen=True)
class Setting:
    """One setting: name, type, description, and default (``MISSING`` if it is required)."""

    name: str
    kind: Any
    text: str
    default: Any


def settings() -> dict[str, Setting]:
    """The settings by name, in the order of :class:`TrainConfig`."""
    hints = get_type_hints(TrainConfig, include_extras=True)
    found = {}
    for each in fields(TrainConfig):
        kind, text = get_args(hints[each.name])
        found[each.name] = Setting(each.name, kind, text, each.default)
    return found


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The settings in a YAML file, such as the ``config.yaml`` of a run.

    Raises:
        ConfigError: it cannot be read, is not a mapping, or has an unknown setting or a value of the wrong type.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: this recipe cannot be read ({reason})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: this recipe is not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a recipe is a list of `setting: value` lines")
    try:
        return {name: checked_value(name, value) for name, value in values.items()}
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def checked_value(name: str, value: Any) -> Any:
    """``value`` converted to the type of a setting, such as a whole number to a float or a list to a tuple.

    Raises:
        ConfigError: there is no such setting, or the value has another type.
    """
    known = settings()
    if name not in known:
        raise ConfigError(f"there is no setting {name!r}: {nearest(str(name), known)}")
    try:
        return _coerced(value, known[name].kind)
    except TypeError:
        raise ConfigError(f"{name} is {in_words(known[name].kind)}, not {value!r}") from None


def _coerced(value: Any, kind: Any) -> Any:
    arguments = get_args(kind)
    if get_origin(kind) in (Union, types.UnionType):
        return None if value is None else _coerced(value, next(a for a in arguments if a is not type(None)))
    if get_origin(kind) is Literal:
        if value in arguments:
            return value
    elif get_origin(kind) is tuple:
        item, *more = arguments
        if isinstance(value, int) and more == [item]:
            return (value, value)  # a square
        if isinstance(value, list | tuple) and (more == [...] or len(value) == len(arguments)):
            return tuple(_coerced(each, item) for each in value)
        if isinstance(value, list | tuple) and len(value) == 1 and item is int:
            return (_coerced(value[0], item),) * len(arguments)
    elif kind is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-3, without a point, as text
        except ValueError:
            raise TypeError from None
    elif isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise TypeError


def in_words(kind: Any) -> str:
    """The type of a setting in words."""
    if get_origin(kind) in (Union, types.UnionType):
        return in_words(next(a for a in get_args(kind) if a is not type(None)))
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if get_origin(kind) is tuple:
        return "a list of text" if get_args(kind)[-1] is ... else "one whole number or two"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]
