"""How good a trained model is, on images whose classes are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassCalibrationError

from hexavit.errors import DataError, HexavitError, nearest
from hexavit.inference.device import Device, pick_device
from hexavit.inference.opening import Ready
from hexavit.inference.run import Run, Weights
from hexavit.training.answers import BINS, Answers, ClassResult, Confused
from hexavit.training.data import Source, open_source
from hexavit.training.data.loading import Images, choose_workers, make_loader
from hexavit.training.data.split import from_record
from hexavit.training.metrics import accuracies, mean_loss
from hexavit.training.objectives import CrossEntropy
from hexavit.training.quiet import quiet_lightning

Part = Literal["auto", "train", "val", "test", "all"]


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

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Judged:
    """An evaluation with what it was made from.

    Attributes:
        evaluation: the figures.
        answers: one an image.
        classes: of the model, in the order of the logits.
        source: the images.
    """

    evaluation: Evaluation
    answers: Answers
    classes: Sequence[str]
    source: Source


def evaluate(
    subject: Run | Ready,
    data: str,
    *,
    part: Part = "auto",
    weights: Weights = "best",
    batch_size: int = 64,
    workers: int | None = None,
    device: Device = "auto",
) -> Evaluation:
    """The figures that :func:`judge` finds, which says what the arguments are."""
    options: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "device": device}
    return judge(subject, data, part=part, weights=weights, **options).evaluation


@torch.inference_mode()
def judge(
    subject: Run | Ready,
    data: str,
    *,
    part: Part = "auto",
    weights: Weights = "best",
    batch_size: int = 64,
    workers: int | None = None,
    device: Device = "auto",
) -> Judged:
    """Judge a model, keeping its answer to every image.

    Args:
        subject: a run folder that :meth:`Run.open` accepted, or what :func:`hexavit.inference.open_model` gave.
        data: ``digits``, or a folder; its classes must be among those of the model.
        part: of the data; ``auto`` is ``test`` where there is one, else what the run held out, else all of it.
        weights: of a run, those of the best or of the last epoch.
        batch_size: images that go through the model at once.
        workers: processes that read images.
        device: where to compute.

    Raises:
        DataError: when the data is missing, has classes that the model does not know, or lacks that part.
        RunError: when the run cannot be read.
    """
    if batch_size < 1:
        raise HexavitError(f"the batch size is at least 1, not {batch_size}")
    source = open_source(data)
    ready = Ready.of_run(subject, weights) if isinstance(subject, Run) else subject
    classes = ready.classes
    labels = _labels(source, ready)
    found, numbers = _choose(ready, source, part)
    if not numbers:
        raise DataError(f"{source.identity}: its part {found!r} has no images")
    images = Images(source, numbers, ready.input_spec.transform(), seed=0, labels=labels)
    place = pick_device(device)
    model = ready.model.to(place)
    objective = CrossEntropy()
    overall, loss = accuracies(len(classes)).to(place), mean_loss().to(place)
    calibration = MulticlassCalibrationError(len(classes), n_bins=BINS).to(place)
    columns: list[tuple[Tensor, ...]] = []
    loader = make_loader(images, batch_size=batch_size, workers=choose_workers(workers, source), training=False)
    with quiet_lightning():
        for batch, target_on_cpu in loader:
            target = target_on_cpu.to(place)
            logits = model(batch.to(place))  # (B, K)
            loss.update(objective(logits, target), len(target))
            overall.update(logits, target)
            probabilities = logits.float().softmax(dim=-1)
            calibration.update(probabilities, target)
            confidence, predicted = probabilities.max(dim=-1)
            of_truth = probabilities.gather(1, target[:, None]).squeeze(1)
            columns.append(tuple(each.cpu() for each in (target, predicted, confidence, of_truth)))
    answers = Answers(np.array(numbers), *(torch.cat(column).numpy() for column in zip(*columns, strict=True)))
    values = {name: float(value) for name, value in overall.compute().items()}
    per_class = answers.per_class(classes)
    evaluation = Evaluation(
        data=data,
        part=found,
        weights=ready.weights,
        count=len(images),
        accuracy=values["accuracy"],
        top5=values.get("top5"),
        loss=float(loss.compute()),
        interval=answers.interval(),
        ece=float(calibration.compute()),
        macro_f1=sum(each.f1 for each in per_class) / len(per_class),
        per_class=per_class,
        confused=answers.confused(classes),
    )
    return Judged(evaluation, answers, classes, source)


def _labels(source: Source, ready: Ready) -> list[int]:
    """For each class of the data its index among those of the model."""
    numbers = {**ready.synonyms, **{name: i for i, name in enumerate(ready.classes)}}
    for name in source.classes:
        if name not in numbers:
            raise DataError(f"{source.identity}: the model knows no class {name!r}: {nearest(name, ready.classes)}")
    return [numbers[name] for name in source.classes]


def _choose(ready: Ready, source: Source, part: Part) -> tuple[str, Sequence[int]]:
    """The name and the images of the part that is meant."""
    if part == "all":
        return part, range(len(source.names))
    record = ready.split
    split = from_record(source, dict(record)) if record and record["data"] == source.identity else source.parts
    if part == "auto":
        part = next((name for name in ("test", "val") if name in split), "all")
        return (part, split[part]) if part != "all" else (part, range(len(source.names)))
    if part not in split:
        raise DataError(f"{source.identity}: this data has no part {part!r}: {nearest(part, ['all', *split])}")
    return part, split[part]
