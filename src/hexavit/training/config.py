"""The settings of a training run: typed, validated, and saved as ``config.yaml``."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from hexavit.data.source import Augment, Balance, OnBadImage
from hexavit.errors import HexavitError, nearest
from hexavit.inference.device import Device

Precision = Literal["float32", "bfloat16", "float16"]
Distillation = Literal["hard", "soft"]
Schedule = Literal["cosine", "epoch_cosine", "step", "constant", "exponential"]
Interpolation = Literal["random", "bilinear", "bicubic"]


class ConfigError(HexavitError):
    """A setting is unknown, or its value is not valid."""


_RANGES: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
    (("epochs", "batch_size", "img_size", "in_chans", "devices", "micro_batch"), lambda x: x >= 1, "at least 1"),
    (("steps", "lr_batch", "repeats", "train_images"), lambda x: x >= 1, "at least 1"),
    (("weight_decay", "warmup_epochs", "clip_grad", "mixup", "cutmix", "magnitude"), lambda x: x >= 0, "at least 0"),
    (("workers", "patience", "save_every", "color_jitter", "token_loss_weight"), lambda x: x >= 0, "at least 0"),
    (("freeze",), lambda x: x >= -1, "at least -1"),
    (("min_lr", "warmup_lr", "warmup_steps", "cooldown_epochs"), lambda x: x >= 0, "at least 0"),
    (("lr", "head_lr", "distillation_tau", "decay_epochs"), lambda x: x > 0, "above 0"),
    (("crop_pct", "decay_rate"), lambda x: 0 < x <= 1, "above 0 and at most 1"),
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
    steps: Annotated[int | None, "length of the run in steps, instead of epochs; the last epoch may be shorter"] = None
    batch_size: Annotated[int, "images in one step, over all devices"] = 64
    repeats: Annotated[
        int, "times that an epoch draws an image, augmented anew, of the fewer images that it then has (DeiT: 3)"
    ] = 1
    optimizer: Annotated[str, "a name of timm's factory, such as adamw, lamb, sgd (Nesterov), momentum"] = "adamw"
    optimizer_options: Annotated[tuple[str, ...], "its options, each NAME=VALUE, such as betas=0.9,0.95"] = ()
    lr: Annotated[float, "highest learning rate"] = 1e-3
    lr_batch: Annotated[
        int | None, "batch size that lr is for: the rate is lr * batch_size / lr_batch; by default lr for any batch"
    ] = None
    head_lr: Annotated[float, "learning rate of the classifiers, as a multiple of lr"] = 1.0
    layer_decay: Annotated[float, "learning rate of each layer relative to the next one; 1 makes all equal"] = 1.0
    freeze: Annotated[int, "number of first stages whose weights stay fixed; -1: all, only the head is trained"] = 0
    head_precision: Annotated[
        Literal["same", "float32"], "precision of the head: that of the other layers, or float32"
    ] = "same"
    weight_decay: Annotated[float, "weight decay; norms, biases and position tables have none"] = 0.05
    schedule: Annotated[
        Schedule,
        "after the warm-up: cosine; epoch_cosine (timm's: once an epoch, counted from 0); step; constant; "
        "or exponential from warmup_lr up to lr",
    ] = "cosine"
    warmup_epochs: Annotated[float, "epochs in which the learning rate rises linearly"] = 2.0
    warmup_steps: Annotated[int | None, "length of the warm-up in steps, instead of warmup_epochs"] = None
    warmup_lr: Annotated[float | None, "learning rate of the first step; by default lr / steps of the warm-up"] = None
    min_lr: Annotated[float, "lowest learning rate of the schedules cosine, epoch_cosine and step"] = 0.0
    cooldown_epochs: Annotated[float, "epochs at min_lr at the end of a cosine, part of epochs"] = 0.0
    decay_epochs: Annotated[float, "epochs between two decays of the schedule step"] = 30.0
    decay_rate: Annotated[float, "factor of a decay of the schedule step"] = 0.1
    clip_grad: Annotated[float, "largest norm of the gradient; 0 turns clipping off"] = 1.0
    drop_path: Annotated[float | None, "highest rate of drop path (stochastic depth); by default the model's own"] = (
        None
    )
    label_smoothing: Annotated[float, "share of the target spread evenly over the classes"] = 0.1
    balance: Annotated[
        Balance, "unbalanced classes: none, weights (in the loss), sampler (rare classes are drawn more often)"
    ] = "none"
    mixup: Annotated[float, "alpha of Mixup; 0 turns it off"] = 0.0
    cutmix: Annotated[float, "alpha of CutMix; 0 turns it off"] = 0.0
    augment: Annotated[
        Augment, "none, shift (small affine), flip (and shift), crop (and flip), rand (RandAugment, erasing)"
    ] = "auto"
    magnitude: Annotated[int, "strength of RandAugment, up to 10; used by `rand` only"] = 9
    policy: Annotated[
        str | None, "timm's policy of `rand`, instead of magnitude, such as rand-m9-mstd0.5-inc1 or augmix-m5"
    ] = None
    color_jitter: Annotated[float | None, "strength of colour jitter; by default 0.4 with `crop`, none with `rand`"] = (
        None
    )
    interpolation: Annotated[
        Interpolation | None, "resize of training images; random: one of the two for each; by default the model's"
    ] = None
    crop_pct: Annotated[float | None, "side of the centre crop in evaluation; by default as suits the data"] = None
    erasing: Annotated[
        float | None, "share of images with an erased rectangle; by default 0.25 with `rand`, else 0"
    ] = None
    teacher: Annotated[
        str | None, "distil from this model: a run, folder, file or name, timm:NAME or torchvision:NAME"
    ] = None
    teacher_cache: Annotated[str | None, "folder that stores the teacher's logits of each view of each image"] = None
    distillation: Annotated[Distillation, "hard: the teacher's most probable class; soft: its probabilities"] = "hard"
    distillation_alpha: Annotated[float, "weight of the distillation loss"] = 0.5
    distillation_tau: Annotated[float, "the temperature of soft distillation"] = 1.0
    label_maps: Annotated[str | None, "a folder of label maps, for a model with head=token_labels"] = None
    swapped_boxes: Annotated[
        bool, "exchange rows and columns of the crops of label maps, as the released code of LV-ViT does"
    ] = False
    token_loss_weight: Annotated[
        float, "weight of the loss of the tokens, for a model with head=token_labels; 0.5 in LV-ViT's paper"
    ] = 1.0
    mix_token: Annotated[bool, "mix the tokens of two images (MixToken), for a model with head=token_labels"] = False
    val_fraction: Annotated[
        float | None,
        "share of each class to validate, where the data has no val part; by default a fifth, at most 5,000 images",
    ] = None
    split_seed: Annotated[int, "seed of that split; `seed` does not change it"] = 0
    train_images: Annotated[
        int | None,
        "number of training images, the same share of each class, with validation images in proportion; by default all",
    ] = None
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
    grad_checkpointing: Annotated[bool, "recompute each block in the backward pass: less memory, more time"] = False
    compile: Annotated[bool, "compile the model with torch.compile"] = False
    shard: Annotated[bool, "split weights, gradients and optimizer state over the processes (FSDP2)"] = False
    ema: Annotated[float, "decay of the moving average of the weights, which is validated and saved; 0: none"] = 0.0
    ema_warmup: Annotated[bool, "begin the average with a lower decay, which rises to ema"] = True
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
        for name, needed in (("teacher_cache", "teacher"), ("swapped_boxes", "label_maps")):
            if getattr(self, name) and getattr(self, needed) is None:
                raise ConfigError(f"{name} is of {needed}, which is not given")
        if self.token_loss_weight != type(self).token_loss_weight and not of_tokens:
            raise ConfigError("token_loss_weight is of label_maps or mix_token, and neither is given")
        _check_rates(self)
        if self.balance == "sampler" and self.repeats > 1:
            raise ConfigError("balance sampler cannot be combined with repeats: use balance weights, or repeats 1")
        if self.augment in ("none", "mirror", "shift", "flip") and (
            self.color_jitter is not None or self.interpolation == "random"
        ):
            raise ConfigError(f"color_jitter and random interpolation need augment crop or rand, not {self.augment}")
        if self.policy is not None and self.augment not in ("auto", "rand"):
            raise ConfigError(f"policy needs augment rand, not {self.augment}")
        if self.shard and self.precision == "float16":
            raise ConfigError("shard needs precision float32 or bfloat16, not float16")
        if self.shard and self.optimizer not in (whole := ("adam", "adamw", "momentum", "sgd")):
            # Their state has the shapes of the weights, so that it is split as they are.
            raise ConfigError(f"shard needs optimizer {', '.join(whole[:-1])} or {whole[-1]}, not {self.optimizer}")
        if self.batch_size < self.devices:
            raise ConfigError(f"a batch_size of {self.batch_size} cannot be split among {self.devices} devices")

    @property
    def rate(self) -> float:
        """The highest learning rate, for the batch size of the run."""
        return self.lr if self.lr_batch is None else self.lr * self.batch_size / self.lr_batch

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


def _check_rates(config: TrainConfig) -> None:
    """Raise ConfigError for an unknown optimizer, or settings that the schedule does not use."""
    for option in config.optimizer_options:
        if not option.partition("=")[0].isidentifier() or "=" not in option:
            raise ConfigError(f"optimizer_options are NAME=VALUE each, such as momentum=0.9, not {option!r}")
    if config.optimizer != TrainConfig.optimizer:
        from timm.optim import list_optimizers  # takes a second

        if config.optimizer not in (known := [str(name) for name in list_optimizers()]):
            raise ConfigError(f"there is no optimizer {config.optimizer!r}: {nearest(config.optimizer, known)}")
    if config.min_lr > config.lr:
        raise ConfigError(f"min_lr is at most lr, {config.lr:g}, not {config.min_lr:g}")
    if config.schedule == "exponential" and not config.warmup_lr:
        raise ConfigError("schedule exponential needs warmup_lr above 0, the rate that it begins with")
    cosine = config.schedule in ("cosine", "epoch_cosine")
    unused = {"min_lr": config.schedule != "step" and config.min_lr, "cooldown_epochs": config.cooldown_epochs}
    for name, given in unused.items():
        if given and not cosine:
            raise ConfigError(f"{name} is of a cosine schedule, not of {config.schedule}")


@dataclass(frozen=True)
class Setting:
    """One setting: name, type, description, and default (``MISSING`` if it is required)."""

    name: str
    kind: Any
    text: str
    default: Any


@cache  # resolving the annotations takes milliseconds, and each value is checked
def settings() -> Mapping[str, Setting]:
    """The settings by name, in the order of :class:`TrainConfig`."""
    hints = get_type_hints(TrainConfig, include_extras=True)
    found = {}
    for each in fields(TrainConfig):
        kind, text = get_args(hints[each.name])
        found[each.name] = Setting(each.name, kind, text, each.default)
    return types.MappingProxyType(found)


RECIPES = Path(__file__).parent.parent / "recipes"
"""The recipes of this package."""


def recipe_path(name: str | Path) -> Path:
    """The file of a recipe: a path, or the name of a recipe of this package.

    Raises:
        ConfigError: there is neither.
    """
    path, shipped = Path(name), RECIPES / f"{name}.yaml"
    if path.is_file() or not shipped.is_file():
        if not path.exists() and path.name == str(name) and not path.suffix:
            known = [file.stem for file in RECIPES.glob("*.yaml")]
            raise ConfigError(f"there is no recipe {str(name)!r}: {nearest(str(name), known)}")
        return path
    return shipped


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The settings in a YAML file, such as the ``config.yaml`` of a run, or of a recipe of this package by its name.

    Raises:
        ConfigError: it cannot be read, is not a mapping, or has an unknown setting or a value of the wrong type.
    """
    path = recipe_path(path)
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
