"""How good a trained model is, on images whose classes are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from inspect import signature
from typing import Any, Literal, ParamSpec

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.classification import MulticlassCalibrationError

from hexavit.data import Source, open_source
from hexavit.data.batches import read_batches
from hexavit.data.source import OnBadImage
from hexavit.data.split import from_record
from hexavit.errors import DataError, HexavitError, nearest
from hexavit.evaluation.metrics import MeanLoss, accuracies, figure
from hexavit.evaluation.predictions import BINS, Answers, ClassResult, Confused
from hexavit.inference.acceleration import optimized
from hexavit.inference.device import Device, pick_device
from hexavit.inference.load_model import Ready, Subject, made_ready
from hexavit.runs.run_folder import Weights

P = ParamSpec("P")
Part = Literal["auto", "train", "val", "test", "all"]
Among = Literal["model", "data"]


@dataclass(frozen=True)
class Evaluation:
    """What ``evaluate`` found.

    Attributes:
        data: the data.
        part: the part of it: ``train``, ``val``, ``test`` or ``all``.
        weights: ``best`` or ``last`` of a run, else a published name or a file.
        count: images.
        accuracy: share of the images whose most probable class is right.
        top5: share of those whose class is among the five most probable; nothing where there are five classes or less.
        loss: mean cross-entropy in nats.
        interval: of the accuracy: 95 % of the bootstrap's draws lie in it.
        ece: expected calibration error: how far confidence and the share of right answers lie apart, over 15 bins.
        macro_f1: mean F1 of the classes that occur.
        per_class: the classes that occur, in the order of the logits.
        confused: every confusion that happened, the most frequent first.
        among: whether the answer was sought among all classes of the ``model``, or among those of the ``data`` alone.
        left_out: images by class, where the model has no such class and the answer was sought among the data's.
        skipped: names of images that could not be read, each with the reason.
    """

    data: str
    part: str
    weights: str
    count: int
    accuracy: float
    top5: float | None
    loss: float
    interval: tuple[float, float]
    ece: float
    macro_f1: float
    per_class: tuple[ClassResult, ...]
    confused: tuple[Confused, ...]
    among: Among = "model"
    left_out: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Judged:
    """An evaluation with what it was made from.

    Attributes:
        evaluation: the figures.
        answers: one an image.
        classes: among which the answers were sought; ``answers`` counts by their places.
        source: the images.
    """

    evaluation: Evaluation
    answers: Answers
    classes: Sequence[str]
    source: Source


@torch.inference_mode()
def judge(
    subject: Subject,
    data: str,
    *,
    part: Part = "auto",
    weights: Weights = "best",
    batch_size: int = 64,
    workers: int | None = None,
    device: Device = "auto",
    among: Among = "model",
    on_bad_image: OnBadImage = "error",
    optimize: bool | None = None,
) -> Judged:
    """Judge a model, keeping its answer to every image.

    Args:
        subject: a run or its folder, a model's name, or what :func:`hexavit.inference.open_model` gave.
        data: ``digits``, or a folder; its classes must be among those of the model.
        part: of the data; ``auto`` is ``test`` where there is one, else what the run held out, else all of it.
        weights: of a run, those of the best or of the last epoch.
        batch_size: images that go through the model at once.
        workers: threads that decode images.
        device: where to compute.
        among: all classes of the ``model`` may be answered, or those of the ``data`` alone: the others' logits are
            not looked at, as is done to judge a model of ImageNet-22k on ImageNet-1k. Images of classes that the model
            does not have are left out then, and counted.
        optimize: use :func:`hexavit.optimize`; by default on CPUs for 2,000 images and more.
        on_bad_image: ``skip`` leaves out what cannot be read, and names it in the result; ``error`` refuses it.

    Raises:
        DataError: when the data is missing, has classes that the model does not know, lacks that part, or cannot be
            read.
        RunError: when the run cannot be read.
    """
    if batch_size < 1:
        raise HexavitError(f"the batch size is at least 1, not {batch_size}")
    source = open_source(data)
    ready = made_ready(subject, weights)
    choice = _choice(source, ready, among)
    found, numbers = choose_part(ready, source, part)
    left_out = Counter(source.classes[source.labels[n]] for n in numbers if choice.labels[source.labels[n]] is None)
    numbers = [number for number in numbers if choice.labels[source.labels[number]] is not None]
    if not numbers:
        raise DataError(f"{source.place}: its part {found!r} has no images")
    skipped: dict[str, str] | None = {} if on_bad_image == "skip" else None
    batches = read_batches(source, numbers, ready.input_spec, batch_size=batch_size, workers=workers, skipped=skipped)
    place = pick_device(device)
    model = optimized(ready.model.to(place), place, optimize, len(numbers), ready.input_spec.size, batch_size)
    columns = None if choice.columns is None else torch.tensor(choice.columns, device=place)
    sums = _Sums(len(choice.classes), place)
    for of_batch, pixels in batches:
        target = torch.tensor([choice.labels[source.labels[number]] for number in of_batch], device=place)
        logits = model(ready.input_spec.normalise(pixels.to(place)))  # (B, K)
        sums.add(of_batch, logits if columns is None else logits[:, columns], target)
    if not sums.answered:
        raise DataError(f"{source.place}: no image of its part {found!r} can be read")
    answers = sums.answers()
    per_class = answers.per_class(choice.classes)
    evaluation = Evaluation(
        data=data,
        part=found,
        weights=ready.weights,
        count=len(answers.numbers),
        **sums.figures(),
        interval=answers.interval(),
        macro_f1=sum(each.f1 for each in per_class) / len(per_class),
        per_class=per_class,
        confused=answers.confused(choice.classes),
        among=among,
        left_out=dict(left_out),
        skipped=skipped or {},
    )
    return Judged(evaluation, answers, choice.classes, source)


def _figures_of(judging: Callable[P, Judged]) -> Callable[P, Evaluation]:
    def evaluate(*args: P.args, **options: P.kwargs) -> Evaluation:
        """The figures that :func:`judge` finds, which says what the arguments are."""
        return judging(*args, **options).evaluation

    shown = signature(judging).replace(return_annotation="Evaluation")
    evaluate.__signature__ = shown  # type: ignore[attr-defined]  # a function may have one
    return evaluate


evaluate = _figures_of(judge)


class _Sums:
    """What is added up over the batches, among `count` classes."""

    def __init__(self, count: int, place: torch.device) -> None:
        self.answered: list[tuple[Tensor, ...]] = []
        self._overall, self._loss = accuracies(count).to(place), MeanLoss().to(place)
        self._calibration = MulticlassCalibrationError(count, n_bins=BINS).to(place)

    def add(self, numbers: Sequence[int], logits: Tensor, target: Tensor) -> None:
        """Images (B,) by number, their logits (B, count) and right classes (B,)."""
        self._loss.update(F.cross_entropy(logits.float(), target), len(target))
        self._overall.update(logits, target)
        probabilities = logits.float().softmax(dim=-1)
        self._calibration.update(probabilities, target)
        confidence, predicted = probabilities.max(dim=-1)
        of_truth = probabilities.gather(1, target[:, None]).squeeze(1)
        rows = (torch.tensor(numbers), target, predicted, confidence, of_truth)
        self.answered.append(tuple(each.cpu() for each in rows))

    def answers(self) -> Answers:
        """One an image."""
        return Answers(*(torch.cat(column).numpy() for column in zip(*self.answered, strict=True)))

    def figures(self) -> dict[str, Any]:
        """Those over all images, by the names that `Evaluation` has for them."""
        values = {name: figure(value) for name, value in self._overall.compute().items()}
        return {
            "accuracy": values["accuracy"],
            "top5": values.get("top5"),
            "loss": figure(self._loss.compute()),
            "ece": figure(self._calibration.compute()),
        }


@dataclass(frozen=True)
class _Choice:
    """Among which classes the answer is sought.

    Attributes:
        classes: their names.
        columns: their logits; nothing when all are.
        labels: for each class of the data its place among them, or nothing when the model has no such class.
    """

    classes: Sequence[str]
    columns: list[int] | None
    labels: list[int | None]


def _choice(source: Source, ready: Ready, among: Among) -> _Choice:
    numbers = {**ready.synonyms, **{name: i for i, name in enumerate(ready.classes)}}
    unknown = [name for name in source.classes if name not in numbers]
    known = [name for name in source.classes if name in numbers]
    if unknown and (among == "model" or len(known) < 2):
        near = nearest(unknown[0], ready.classes)
        raise DataError(f"{source.place}: the model knows no class {unknown[0]!r}: {near}")
    if among == "model":
        return _Choice(ready.classes, None, [numbers[name] for name in source.classes])
    columns = [numbers[name] for name in known]
    places = {name: place for place, name in enumerate(known)}
    return _Choice([ready.classes[i] for i in columns], columns, [places.get(name) for name in source.classes])


def choose_part(ready: Ready, source: Source, part: Part) -> tuple[str, Sequence[int]]:
    """The name and the images of the part that is meant.

    Raises:
        DataError: when the data has no such part.
    """
    if part == "all":
        return part, range(len(source.names))
    record = ready.split
    split = from_record(source, dict(record)) if record and record["data"] == source.identity else source.parts
    if part == "auto":
        part = next((name for name in ("test", "val") if name in split), "all")
        return (part, split[part]) if part != "all" else (part, range(len(source.names)))
    if part not in split:
        raise DataError(f"{source.place}: this data has no part {part!r}: {nearest(part, ['all', *split])}")
    return part, split[part]
