"""The settings that a good colleague would choose, as a function of what there is: facts in, settings and reasons out.

Nothing here reads a file or asks the machine: :mod:`hexavit.training.auto_config.facts` does. The tables are the rules;
``docs/auto-config.md`` says where each comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any, Literal, NamedTuple

from hexavit.architecture import Architecture
from hexavit.duration import in_words
from hexavit.models.registry import resolve
from hexavit.parts.contract import Size
from hexavit.training.config import TrainConfig, checked_value

HOUR = 3600.0
SMALL = 64
"""Up to this side in pixels, images are for the models that are built for small ones."""
SMALL_MODEL = "cvt_nano"
"""Its model: the demo's, whose result is measured over five seeds."""
SIDES = (224, 160, 128, 96)
"""Sides at which photographs are shown, best first; each costs a little more than half of the one before."""
MANY = 100_000
"""From so many images on, a day on an accelerator is well spent."""
RATES = {"cpu": 4e9, "mps": 5e11, "cuda": 1e13}
"""Multiply-adds a second in training, roughly: of one core of a CPU, or of an accelerator."""
READING, HANDLING = 8e-3, 1e-4
"""Seconds of a core to read and vary a photograph, and to do anything with an image at all."""
CAPACITY = ((2_000, 10), (20_000, 30), (200_000, 60))
"""Up to so many images, so many millions of parameters."""
LARGEST_BATCH = {"cpu": 64, "mps": 64, "cuda": 256}
LEARNING_RATES = ((2, 2e-3), (10, 5e-4), (float("inf"), 2.5e-4))
"""Up to so many millions of parameters, the learning rate from scratch at a batch of 64; others by the square root."""


class Schedule(NamedTuple):
    """How long to train: steps to aim at, fewest and most epochs for that, and fewest where time is short."""

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
STRENGTHS: tuple[tuple[float, str, dict[str, Any]], ...] = (  # up to so many images shown
    (2e5, "light", {"augment": "crop", "erasing": 0.0, "mixup": 0.0, "cutmix": 0.0, "drop_path": 0.0}),
    (
        2e7,
        "medium",
        {"augment": "rand", "magnitude": 7, "erasing": 0.1, "mixup": 0.2, "cutmix": 0.0, "drop_path": 0.05},
    ),
    (
        float("inf"),
        "DeiT's",
        {"augment": "rand", "magnitude": 9, "erasing": 0.25, "mixup": 0.8, "cutmix": 1.0, "drop_path": 0.1},
    ),
)


@dataclass(frozen=True)
class DataFacts:
    """Of the data: images to train on, classes, channels; ``side`` is the median of a sample's shorter sides in pixels,
    ``size`` what the data itself suggests, ``mirrored`` whether its images may be flipped and cut."""

    images: int
    classes: int
    channels: int
    side: int
    size: Size | None = None
    mirrored: bool = True


@dataclass(frozen=True)
class Machine:
    """Where to train: the kind of device, the CPU's cores, bytes free in its memory and in the accelerator's, and
    whether that computes in bfloat16."""

    device: Literal["cpu", "mps", "cuda"]
    cores: int
    memory: int
    device_memory: int | None = None
    bfloat16: bool = False


@dataclass(frozen=True)
class Start:
    """Weights at hand: of which model, with what edits, seen at which size, with how many channels and classes."""

    model: str
    overrides: tuple[str, ...] = ()
    size: Size | None = None
    channels: int | None = None
    classes: int | None = None


@dataclass(frozen=True)
class Candidate:
    """A named model that learns from images and labels alone: the side that it is built for and, unless it is a small
    one, millions of parameters, multiply-adds at that side, published ImageNet-1k top-1 as a fraction of 1."""

    name: str
    side: int
    params_m: float = 0.0
    macs: float = 0.0
    top1: float = 0.0


@dataclass(frozen=True)
class Situation:
    """All that the choice depends on."""

    data: DataFacts
    machine: Machine
    models: tuple[Candidate, ...]
    start: Start | None = None


class Counted(NamedTuple):
    """A model's cost for one image: parameters, multiply-adds, bytes kept for the backward pass in float32."""

    parameters: int
    macs: int
    activation_bytes: int


def counted(architecture: Architecture) -> Counted:
    """By :func:`hexavit.profile`."""
    from hexavit.profiling import profile

    total = profile(architecture).total
    return Counted(total.parameters, total.macs, total.activation_bytes)


Chosen = tuple[dict[str, Any], str]
Cost = Callable[[Architecture], Counted]


def choose(situation: Situation, given: Mapping[str, Any], cost: Cost = counted) -> tuple[TrainConfig, tuple[str, ...]]:
    """Settings for a training, and a line of reason for each group of them.

    Args:
        situation: the facts.
        given: settings that stand as they are.
        cost: of a model for one image.

    Raises:
        ConfigError: a setting that makes no sense.
        ArchitectureError: an unknown model, or edits that do not fit it.
    """
    settled = {name: checked_value(name, value) for name, value in given.items()}
    reasons: list[str] = []
    _settle(settled, reasons, _model(situation, settled, cost))
    for rule in (_channels, _precision):
        _settle(settled, reasons, rule(situation, settled))
    architecture = resolve(
        settled["model"],
        num_classes=situation.data.classes,
        in_chans=settled["in_chans"] or situation.data.channels,
        img_size=settled["img_size"] or situation.data.size,
        overrides=settled.get("overrides", ()),
    )
    model = cost(architecture)
    for with_cost in (_batch, _length, _rates, _strength):
        _settle(settled, reasons, with_cost(situation, settled, model))
    return TrainConfig.from_mapping(settled), tuple(reasons)


def _settle(settled: dict[str, Any], reasons: list[str], chosen: Chosen) -> None:
    values, why = chosen
    fresh = {name: value for name, value in values.items() if name not in settled}
    if fresh:
        settled |= fresh
        reasons.append(", ".join(f"{name} {_written(value)}" for name, value in fresh.items()) + f": {why}")


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return " x ".join(map(str, value)) if value and isinstance(value[0], int) else ", ".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _model(situation: Situation, settled: Mapping[str, Any], cost: Cost) -> Chosen:
    """The model and its size, of the weights at hand, else what the images deserve and the time allows."""
    data, start = situation.data, situation.start
    if start is not None and settled.get("model", start.model) == start.model:
        return _of_weights(situation, start, cost)
    images = f"{data.images:,} images of {data.side} pixels or so"
    if "model" in settled:
        return {"img_size": data.size or resolve(settled["model"]).img_size}, f"the model's own; {images}"
    if settled.get("img_size"):
        sides: tuple[int, ...] = (round(sqrt(settled["img_size"][0] * settled["img_size"][1])),)
    elif data.size or data.side <= SMALL:
        sides = (max(data.size) if data.size else 32 * ceil(data.side / 32),)
    else:
        sides = tuple(side for side in SIDES if side - 32 < data.side) or SIDES[-1:]
    if sides[0] <= SMALL:
        size = data.size or (sides[0], sides[0])
        return {"model": SMALL_MODEL, "img_size": size}, f"{images}, as the demo's"
    found, side, why = _best(situation, sides)
    return {"model": found.name, "img_size": (side, side)}, f"{images}; {why}"


def _of_weights(situation: Situation, start: Start, cost: Cost) -> Chosen:
    values: dict[str, Any] = {"model": start.model}
    if start.overrides:
        values["overrides"] = start.overrides
    size = start.size or resolve(start.model).img_size
    if situation.machine.device == "cpu":
        macs = cost(resolve(start.model, img_size=size, overrides=start.overrides)).macs
        for side in SIDES:
            if _fits(situation, macs * side**2 / (size[0] * size[1]), SCHEDULES[False, True].least):
                break
        if side < min(size) and max(size) > SMALL:
            return {
                **values,
                "img_size": (side, side),
            }, f"those of the weights, but for the time below {_written(size)}"
    return {**values, "img_size": size}, "those of the weights"


def _best(situation: Situation, sides: tuple[int, ...]) -> tuple[Candidate, int, str]:
    """The best published model that the time allows, at the largest side that it allows any."""
    images, accelerated = situation.data.images, situation.machine.device != "cpu"
    most = next((limit for count, limit in CAPACITY if images <= count), float("inf"))
    large = [each for each in situation.models if each.side > SMALL and each.params_m <= most]
    epochs = SCHEDULES[accelerated, False].fewest
    for side in sides:
        fits = [each for each in large if _fits(situation, each.macs * (side / each.side) ** 2, epochs)]
        if fits:
            best = max(fits, key=lambda each: (each.top1, -each.macs))
            size = f" and {most} M parameters" if most < float("inf") else ""
            time = in_words(_budget(situation))
            return best, side, f"the best on ImageNet within {time} for {epochs} epochs{size}"
    cheapest = min(large, key=lambda each: (each.macs / each.side**2, each.name))
    return cheapest, sides[-1], "the cheapest at the smallest size, as this machine is slow for so many"


def _budget(situation: Situation) -> float:
    """Seconds that a training may take; on a CPU the guess may be wrong by six before that is an hour."""
    if situation.machine.device == "cpu":
        return HOUR / 6
    return HOUR if situation.data.images < MANY else 24 * HOUR


def _fits(situation: Situation, macs: float, epochs: int) -> bool:
    return epochs * _epoch(situation, macs) <= _budget(situation)


def _epoch(situation: Situation, macs: float) -> float:
    """Seconds for the images once, forward and backward, by a rough guess."""
    machine, photographs = situation.machine, situation.data.side > SMALL
    rate = RATES[machine.device] * (machine.cores if machine.device == "cpu" else 1)
    reading = READING / machine.cores if photographs else HANDLING
    return situation.data.images * max(3 * macs / rate, reading)


def _channels(situation: Situation, settled: Mapping[str, Any]) -> Chosen:
    start = situation.start
    if start is not None and start.channels in (1, 3) and situation.data.channels in (1, 3):
        return {"in_chans": start.channels}, "those of the weights"
    return {"in_chans": situation.data.channels}, "those of the images"


def _precision(situation: Situation, settled: Mapping[str, Any]) -> Chosen:
    machine = situation.machine
    if machine.device == "cuda":
        if machine.bfloat16:
            return {"precision": "bfloat16"}, "this GPU computes in it, at twice the speed or more"
        return {"precision": "float16"}, "this GPU has no bfloat16; losses are scaled"
    return {"precision": "float32"}, f"on {machine.device}, where halves gain little"


def _batch(situation: Situation, settled: Mapping[str, Any], model: Counted) -> Chosen:
    """A power of two that leaves 20 steps an epoch, and fits the memory."""
    data, machine = situation.data, situation.machine
    halved = 1.0 if settled["precision"] == "float32" else 0.6
    room = machine.memory * 0.25 if machine.device_memory is None else machine.device_memory * 0.6
    fitting = max(1.0, (room - 16 * model.parameters) / (halved * model.activation_bytes))
    most = min(max(8, data.images // 20), data.images, LARGEST_BATCH[machine.device])
    batch = _power_of_two(min(most, fitting))
    steps = max(1, data.images // batch)
    why = f"{steps:,} step{'s' * (steps > 1)} an epoch"
    taken = (16 * model.parameters + batch * halved * model.activation_bytes) / 1e6
    memory = f"{taken / 1000:.1f} GB" if taken > 999 else f"{taken:.0f} MB"
    return {"batch_size": batch}, f"{why}, and {memory} of memory or so"


def _power_of_two(most: float) -> int:
    return 1 << max(0, int(most).bit_length() - 1)


def _length(situation: Situation, settled: Mapping[str, Any], model: Counted) -> Chosen:
    """Epochs for a number of steps, fewer where an hour is not enough; a tenth of them is warm-up, five at most."""
    data = situation.data
    schedule = SCHEDULES[situation.machine.device != "cpu", situation.start is not None]
    steps = max(1, data.images // settled["batch_size"])
    epochs = min(max(ceil(schedule.steps / steps), schedule.fewest), schedule.most)
    second, budget = _epoch(situation, model.macs), _budget(situation)
    why = f"{schedule.steps:,} steps, but {schedule.fewest} to {schedule.most} epochs"
    if epochs * second > budget:
        epochs = max(schedule.least, int(budget / second))
        why = f"what {in_words(budget)} allow, but {schedule.least} at least"
    if "epochs" in settled:
        epochs, why = settled["epochs"], "a tenth of the epochs, 5 at most"
    return {"epochs": epochs, "warmup_epochs": min(5.0, epochs / 10)}, f"{why}; {in_words(epochs * second)} or so"


def _rates(situation: Situation, settled: Mapping[str, Any], model: Counted) -> Chosen:
    batch, start = settled["batch_size"], situation.start
    scale = sqrt(batch / 64)
    millions = model.parameters / 1e6
    rate = next(rate for most, rate in LEARNING_RATES if millions <= most)
    if start is None:
        why = f"AdamW from scratch, {millions:.1f} M parameters, batches of {batch}"
        if situation.data.side > SMALL and situation.data.images < MANY:
            why += "; --from NAME would start from published weights"
        return {"lr": _two_digits(rate * scale), "weight_decay": 0.05}, why
    new_head = start.classes != situation.data.classes
    why = "fine-tuning: what is learnt moves less the earlier its layer" + (
        ", and the new head learns faster" if new_head else ""
    )
    fine = {
        "lr": _two_digits(max(rate / 2, LEARNING_RATES[-1][1]) * scale),
        "head_lr": 4.0 if new_head else 1.0,
        "layer_decay": 0.75,
    }
    return {**fine, "weight_decay": 0.05}, why


def _two_digits(value: float) -> float:
    return float(f"{value:.1e}")


def _strength(situation: Situation, settled: Mapping[str, Any], model: Counted) -> Chosen:
    data = situation.data
    shown = settled["epochs"] * data.images
    name, values = next((name, values) for most, name, values in STRENGTHS if shown <= most)
    if settled.get("augment") == "none":  # who wants none wants nothing erased or mixed either
        name, values = STRENGTHS[0][1:]
    if not data.mirrored:
        values = {**STRENGTHS[0][2], "augment": "shift"}
        del values["drop_path"]  # the model's own
    if settled.get("augment") not in (None, "auto", "rand"):
        values = {key: value for key, value in values.items() if key != "magnitude"}
    if settled.get("label_maps") or settled.get("mix_token"):
        values = {**values, "augment": "rand" if data.mirrored else "none", "mixup": 0.0, "cutmix": 0.0}
    why = f"{name} for {shown:,} images shown in all"
    if not data.mirrored:
        why = "characters must not be mirrored, nor cut, nor mixed"
    return {**values, "label_smoothing": 0.1}, why


CHOSEN = frozenset(
    {"model", "img_size", "in_chans", "precision", "batch_size", "epochs", "warmup_epochs", "lr", "head_lr"}
    | {"layer_decay", "weight_decay", "label_smoothing", "drop_path"}
    | {"augment", "magnitude", "erasing", "mixup", "cutmix"}
)
"""Names of the settings that are chosen; where all are given there is nothing to look at."""
