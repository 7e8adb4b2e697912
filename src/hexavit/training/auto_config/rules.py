"""Rules that choose the settings of a run from facts about the data, the machine and the initial weights.

Nothing here reads a file or queries the machine: :mod:`hexavit.training.auto_config.facts` does. The rules are tables;
``docs/auto-config.md`` has the source of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from math import ceil, inf, sqrt
from typing import Any, NamedTuple

from hexavit._deprecated import renamed
from hexavit.architecture import Architecture
from hexavit.duration import in_words
from hexavit.models.registry import resolve
from hexavit.parts.registry import part_class
from hexavit.training.auto_config.fact_types import SMALL, Candidate, Facts, StartingWeights
from hexavit.training.config import TrainConfig, checked_value

_TYPES = "hexavit.training.auto_config.fact_types"
__getattr__ = renamed(
    __name__,
    {
        "choose": f"{__name__}.choose_settings",
        "DataFacts": f"{_TYPES}.DataFacts",
        "Machine": f"{_TYPES}.Machine",
        "Situation": f"{_TYPES}.Facts",
    },
)

HOUR = 3600.0
SMALL_MODELS = ((2_000, "cvt_nano"), (inf, "cvt_fine_nano"))
"""Number of small images, and the model for up to that many; the first is measured on the digits, over five seeds."""
SIDES = (224, 160, 128, 96)
"""Image sizes for photographs, best first; each costs a little more than half of the one before."""
MANY = 100_000
"""From this many images on, the time limit on an accelerator is a day."""
RATES = {"cpu": 4e9, "mps": 5e11, "cuda": 1e13}
"""Rough multiply-adds per second in training: of one CPU core, or of an accelerator."""
READING, HANDLING = 8e-3, 1e-4
"""Seconds of one core to read and augment a photograph, and to process an image of any size."""
CAPACITY = ((2_000, 10), (20_000, 30), (200_000, 60))
"""Number of images, and the largest model for up to that many in millions of parameters."""
LARGEST_BATCH = {"cpu": 64, "mps": 64, "cuda": 256}
LEARNING_RATES = ((2, 2e-3), (10, 5e-4), (inf, 2.5e-4))
"""Millions of parameters, and the learning rate from scratch for up to that many, at a batch of 64."""
STATE_BYTES = 16
"""Bytes per parameter: the float32 weight, its gradient and two moments of AdamW."""


class Schedule(NamedTuple):
    """The length of a run.

    Attributes:
        steps: number of steps to aim at.
        fewest: lower limit of the epochs for that.
        most: upper limit of the epochs for that.
        least: lower limit of the epochs if the time limit requires fewer.
    """

    steps: int
    fewest: int
    most: int
    least: int


SCHEDULES = {  # by (accelerator, from weights)
    (False, False): Schedule(1_000, 20, 100, 10),
    (False, True): Schedule(500, 10, 50, 3),
    (True, False): Schedule(10_000, 30, 300, 30),
    (True, True): Schedule(2_000, 10, 50, 10),
}
STRENGTHS: tuple[tuple[float, str, dict[str, Any]], ...] = (  # up to this many images shown
    (2e5, "light", {"augment": "crop", "erasing": 0.0, "mixup": 0.0, "cutmix": 0.0, "drop_path": 0.0}),
    (
        2e7,
        "medium",
        {"augment": "rand", "magnitude": 7, "erasing": 0.1, "mixup": 0.2, "cutmix": 0.0, "drop_path": 0.05},
    ),
    (
        inf,
        "DeiT's",
        {"augment": "rand", "magnitude": 9, "erasing": 0.25, "mixup": 0.8, "cutmix": 1.0, "drop_path": 0.1},
    ),
)


_MIRRORED = {**STRENGTHS[0][2], "augment": "mirror", "erasing": 0.25, "mixup": 0.2}
SMALL_STRENGTHS = (
    (1e6, "mirrored, erased in part and mixed, and not shifted,", _MIRRORED),
    (2e6, "mirrored and shifted, and not cropped,", {**STRENGTHS[0][2], "augment": "flip"}),
)
"""As `STRENGTHS`, for images of at most :data:`SMALL` pixels; longer runs have those of all images."""
AVERAGED = (1_000, 0.99)
"""From this number of steps on, `ema` of runs with the first of `SMALL_STRENGTHS`."""
UNBALANCED = 10.0
"""From this ratio of the most frequent class to the rarest on, classes are balanced."""


class ModelCost(NamedTuple):
    """Parameters of a model, and for one image multiply-adds and bytes kept for the backward pass in float32."""

    parameters: int
    macs: int
    activation_bytes: int


def model_cost(architecture: Architecture) -> ModelCost:
    """The cost as counted by :func:`hexavit.profile`, once per process for models that differ in drop path alone."""
    stages = tuple(replace(stage, drop_path=0.0) for stage in architecture.stages)
    classes = tuple(part_class(kind, part.name) for _, kind, part in architecture.places())
    return _counted(replace(architecture, stages=stages), classes)


@lru_cache(maxsize=64)
def _counted(architecture: Architecture, _classes: tuple[type, ...]) -> ModelCost:
    """Count a model; the classes of its parts belong to the key, because a part may be registered anew."""
    from hexavit.profiling import profile

    total = profile(architecture).total
    return ModelCost(total.parameters, total.macs, total.activation_bytes)


Choice = tuple[dict[str, Any], str]
"""Settings by name, and the reason."""
CostFunction = Callable[[Architecture], ModelCost]


def choose_settings(
    facts: Facts, given: Mapping[str, Any], cost: CostFunction = model_cost
) -> tuple[TrainConfig, tuple[str, ...]]:
    """Choose the settings of a run that are not given.

    Args:
        facts: facts about data, machine, models and initial weights.
        given: settings by name, which are kept as they are.
        cost: function from an architecture to its cost.

    Returns:
        The settings, and one line with the reason for each group of chosen settings.

    Raises:
        ConfigError: the value of a setting is not valid.
        ArchitectureError: the model is unknown, or the overrides do not fit it.
    """
    settings = {name: checked_value(name, value) for name, value in given.items()}
    reasons: list[str] = []

    def add(choice: Choice) -> None:
        values, why = choice
        new = {name: value for name, value in values.items() if name not in settings}
        if new:
            settings.update(new)
            reasons.append(", ".join(f"{name} {_format(value)}" for name, value in new.items()) + f": {why}")

    add(_choose_model(facts, settings, cost))
    add(_choose_channels(facts))
    add(_choose_precision(facts))
    architecture = resolve(
        settings["model"],
        num_classes=facts.data.classes,
        in_chans=settings["in_chans"] or facts.data.channels,
        img_size=settings["img_size"] or facts.data.size,
        overrides=settings.get("overrides", ()),
    )
    model = cost(architecture)
    for rule in (_choose_batch, _choose_epochs, _choose_learning_rates, _choose_regularization):
        add(rule(facts, settings, model))
    add(_choose_balance(facts, settings))
    return TrainConfig.from_mapping(settings), tuple(reasons)


def _format(value: Any) -> str:
    if isinstance(value, tuple):
        return " x ".join(map(str, value)) if value and isinstance(value[0], int) else ", ".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _choose_model(facts: Facts, settings: Mapping[str, Any], cost: CostFunction) -> Choice:
    """Model and image size: those of the initial weights, else by image size, number of images and time limit."""
    data, start = facts.data, facts.start
    if start is not None and settings.get("model", start.model) == start.model:
        return _model_of_weights(facts, start, cost)
    images = f"{data.images:,} images of about {data.side} pixels"
    if "model" in settings:
        return {"img_size": data.size or resolve(settings["model"]).img_size}, f"size of the model; {images}"
    if settings.get("img_size"):
        sides: tuple[int, ...] = (round(sqrt(settings["img_size"][0] * settings["img_size"][1])),)
    elif data.size or data.side <= SMALL:
        sides = (max(data.size) if data.size else 32 * ceil(data.side / 32),)
    else:
        sides = tuple(side for side in SIDES if side - 32 < data.side) or SIDES[-1:]
    if sides[0] <= SMALL:
        size = data.size or (sides[0], sides[0])
        model = next(name for most, name in SMALL_MODELS if data.images <= most)
        return {"model": model, "img_size": size}, f"{images}; the model for up to {SMALL} pixels"
    found, side, why = _best_candidate(facts, sides)
    return {"model": found.name, "img_size": (side, side)}, f"{images}; {why}"


def _model_of_weights(facts: Facts, start: StartingWeights, cost: CostFunction) -> Choice:
    size, why = start.size or resolve(start.model).img_size, "of the initial weights"
    if not facts.accelerated:
        macs = cost(resolve(start.model, img_size=size, overrides=start.overrides)).macs
        per_pixel, epochs = macs / (size[0] * size[1]), SCHEDULES[False, True].least
        side = next((side for side in SIDES if _fits_time(facts, per_pixel * side**2, epochs)), SIDES[-1])
        if side < min(size) and max(size) > SMALL:
            size, why = (side, side), f"of the initial weights, at less than their {_format(size)} to save time"
    edits = {"overrides": start.overrides} if start.overrides else {}
    return {"model": start.model, **edits, "img_size": size}, why


def _best_candidate(facts: Facts, sides: tuple[int, ...]) -> tuple[Candidate, int, str]:
    """The most accurate candidate within the time limit, at the largest size at which there is one, and the reason."""
    most = next((limit for count, limit in CAPACITY if facts.data.images <= count), inf)
    large = [each for each in facts.models if each.side > SMALL and each.params_m <= most]
    epochs = SCHEDULES[facts.accelerated, False].fewest
    for side in sides:
        fits = [each for each in large if _fits_time(facts, each.macs * (side / each.side) ** 2, epochs)]
        if fits:
            best = max(fits, key=lambda each: (each.top1, -each.macs))
            size = f", up to {most} M parameters" if most < inf else ""
            limit = in_words(_time_limit(facts))
            return best, side, f"the most accurate on ImageNet with {epochs} epochs within {limit}{size}"
    cheapest = min(large, key=lambda each: (each.macs / each.side**2, each.name))
    return cheapest, sides[-1], f"the cheapest model; none has {epochs} epochs within {in_words(_time_limit(facts))}"


def _time_limit(facts: Facts) -> float:
    """Seconds for a run. On a CPU the estimate may be wrong by a factor of six, which would be an hour."""
    if not facts.accelerated:
        return HOUR / 6
    return HOUR if facts.data.images < MANY else 24 * HOUR


def _fits_time(facts: Facts, macs: float, epochs: int) -> bool:
    return epochs * _epoch_seconds(facts, macs) <= _time_limit(facts)


def _epoch_seconds(facts: Facts, macs: float) -> float:
    """Rough estimate of an epoch, for a model with these multiply-adds per image."""
    machine = facts.machine
    rate = RATES[machine.device] * (1 if facts.accelerated else machine.cores)
    reading = READING / machine.cores if facts.data.side > SMALL else HANDLING
    return facts.data.images * max(3 * macs / rate, reading)


def _choose_channels(facts: Facts) -> Choice:
    start = facts.start
    if start is not None and start.channels in (1, 3) and facts.data.channels in (1, 3):
        return {"in_chans": start.channels}, "of the initial weights"
    return {"in_chans": facts.data.channels}, "the images are grey" if facts.data.channels == 1 else "of the images"


def _choose_precision(facts: Facts) -> Choice:
    if facts.machine.device != "cuda":
        return {"precision": "float32"}, f"16-bit types gain little on {facts.machine.device}"
    if facts.machine.bfloat16:
        return {"precision": "bfloat16"}, "this GPU supports it; at least twice as fast as float32"
    return {"precision": "float16"}, "this GPU has no bfloat16; the loss is scaled"


def _choose_batch(facts: Facts, settings: Mapping[str, Any], model: ModelCost) -> Choice:
    """A power of two that leaves 20 steps an epoch and fits into a part of the memory."""
    data, machine = facts.data, facts.machine
    per_image = model.activation_bytes * (1.0 if settings["precision"] == "float32" else 0.6)
    available = machine.memory * 0.25 if machine.device_memory is None else machine.device_memory * 0.6
    fitting = max(1.0, (available - STATE_BYTES * model.parameters) / per_image)
    most = min(max(8, data.images // 20), data.images, LARGEST_BATCH[machine.device], fitting)
    batch = 1 << max(0, int(most).bit_length() - 1)
    steps = max(1, data.images // batch)
    needed = (STATE_BYTES * model.parameters + batch * per_image) / 1e6
    memory = f"{needed / 1000:.1f} GB" if needed > 999 else f"{needed:.0f} MB"
    return {"batch_size": batch}, f"{steps:,} step{'s' * (steps > 1)} per epoch, about {memory} of memory"


def _choose_epochs(facts: Facts, settings: Mapping[str, Any], model: ModelCost) -> Choice:
    """Epochs for a number of steps, fewer if the time limit requires it; a tenth of them, at most 5, is warm-up."""
    schedule = SCHEDULES[facts.accelerated, facts.start is not None]
    steps = max(1, facts.data.images // settings["batch_size"])
    epochs = min(max(ceil(schedule.steps / steps), schedule.fewest), schedule.most)
    seconds, limit = _epoch_seconds(facts, model.macs), _time_limit(facts)
    why = f"about {schedule.steps:,} steps, in {schedule.fewest} to {schedule.most} epochs"
    if epochs * seconds > limit:
        epochs = max(schedule.least, int(limit / seconds))
        why = f"limited to {in_words(limit)}, but at least {schedule.least} epochs"
    if settings.get("steps"):
        epochs, why = ceil(settings["steps"] / steps), f"{settings['steps']:,} steps; a tenth of them, at most 5 epochs"
    elif "epochs" in settings:
        epochs, why = settings["epochs"], "a tenth of the epochs, at most 5"
    return {"epochs": epochs, "warmup_epochs": min(5.0, epochs / 10)}, f"{why}; about {in_words(epochs * seconds)}"


def _choose_learning_rates(facts: Facts, settings: Mapping[str, Any], model: ModelCost) -> Choice:
    start, batch = facts.start, settings["batch_size"]
    scale, millions = sqrt(batch / 64), model.parameters / 1e6
    rate = next(rate for most, rate in LEARNING_RATES if millions <= most)
    if start is None:
        why = f"AdamW from scratch, {millions:.1f} M parameters, batch size {batch}"
        if facts.data.side > SMALL and facts.data.images < MANY:
            why += "; --from NAME would start from published weights"
        return {"lr": _two_digits(rate * scale), "weight_decay": 0.05}, why
    new_head = start.classes != facts.data.classes
    fine_tuning = {
        "lr": _two_digits(max(rate / 2, LEARNING_RATES[-1][1]) * scale),
        "head_lr": 4.0 if new_head else 1.0,
        "layer_decay": 0.75,
        "weight_decay": 0.05,
    }
    head = ", and a higher rate for the new head" if new_head else ""
    return fine_tuning, f"fine-tuning: lower rates for earlier layers{head}"


def _two_digits(value: float) -> float:
    return float(f"{value:.1e}")


def _choose_regularization(facts: Facts, settings: Mapping[str, Any], model: ModelCost) -> Choice:
    flips, augment = facts.data.mirrored, settings.get("augment")
    shown = settings["epochs"] * facts.data.images
    name, values = next((name, values) for most, name, values in STRENGTHS if shown <= most)
    if augment == "none":  # then without erasing and mixing too
        name, values = STRENGTHS[0][1:]
    why = f"{name} augmentation for {shown:,} images shown in total"
    varied = augment in ("none", "crop", "rand") or settings.get("policy")
    if facts.data.side <= SMALL and shown <= SMALL_STRENGTHS[-1][0] and not varied:
        name, values = next((name, values) for most, name, values in SMALL_STRENGTHS if shown <= most)
        why = f"small images are {name} for {shown:,} images shown in total"
        steps, decay = AVERAGED
        if values is _MIRRORED and shown >= steps * settings["batch_size"]:
            values = {**values, "ema": decay}
            why += f"; a moving average smooths runs of {steps:,} steps and more"
    values = dict(values)
    if not flips:
        values = {**STRENGTHS[0][2], "augment": "shift"}
        del values["drop_path"]  # the model's own
        why = "characters must not be mirrored, cropped or mixed"
    if augment not in (None, "auto", "rand") or settings.get("policy"):
        values.pop("magnitude", None)
    if settings.get("label_maps") or settings.get("mix_token"):
        values |= {"augment": "rand" if flips else "none", "mixup": 0.0, "cutmix": 0.0}
    return {**values, "label_smoothing": 0.0 if facts.data.multilabel else 0.1}, why


def _choose_balance(facts: Facts, settings: Mapping[str, Any]) -> Choice:
    """Nothing is chosen while the classes are about as frequent as one another."""
    of_tokens = settings.get("label_maps") or settings.get("mix_token")
    repeated = settings.get("repeats", 1) > 1
    if facts.data.imbalance < UNBALANCED or (of_tokens and repeated):  # for which neither way is possible
        return {}, ""
    why = f"the most frequent class has {facts.data.imbalance:.0f} times as many images as the rarest; "
    if (facts.data.multilabel or of_tokens) and not repeated:
        return {"balance": "sampler"}, why + "images of rare classes are drawn more often"
    return {"balance": "weights"}, why + "the loss weights classes by the inverse of their number of images"


AUTOMATIC_SETTINGS = frozenset(
    {"model", "img_size", "in_chans", "precision", "batch_size", "epochs", "warmup_epochs", "lr", "head_lr"}
    | {"layer_decay", "weight_decay", "label_smoothing", "drop_path"}
    | {"augment", "magnitude", "erasing", "mixup", "cutmix", "balance", "ema"}
)
"""Names of the settings that are chosen."""
INSPECTED_FOR = AUTOMATIC_SETTINGS - {"balance", "ema"}
"""If these are given, the data is not inspected; the ``config.yaml`` of version 0.1 has no ``balance``."""
