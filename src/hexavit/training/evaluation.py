"""How good a trained model is, on images whose classes are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torchmetrics.classification import MulticlassAccuracy

from hexavit.errors import DataError, HexavitError, nearest
from hexavit.inference.device import Device, pick_device
from hexavit.inference.opening import Ready
from hexavit.inference.run import Run, Weights
from hexavit.training.data import Source, open_source
from hexavit.training.data.loading import Images, choose_workers, make_loader
from hexavit.training.data.split import from_record
from hexavit.training.metrics import accuracies, mean_loss
from hexavit.training.objectives import CrossEntropy
from hexavit.training.quiet import quiet_lightning

Part = Literal["auto", "train", "val", "test", "all"]


@dataclass(frozen=True)
class ClassResult:
    """Of one class: how many images there were, and the share of them that was recognised."""

    name: str
    count: int
    accuracy: float


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
        per_class: the classes that occur, in the order of the logits.
    """

    data: str
    part: str
    weights: str
    count: int
    accuracy: float
    top5: float | None
    loss: float
    per_class: tuple[ClassResult, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@torch.inference_mode()
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
    """Judge a model.

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
    images = Images(source, numbers, ready.input_spec.transform(), seed=0, labels=labels)
    place = pick_device(device)
    model = ready.model.to(place)
    objective = CrossEntropy()
    overall, loss = accuracies(len(classes)).to(place), mean_loss().to(place)
    each = MulticlassAccuracy(len(classes), average=None).to(place)
    counts = torch.zeros(len(classes), dtype=torch.long)
    loader = make_loader(images, batch_size=batch_size, workers=choose_workers(workers, source), training=False)
    with quiet_lightning():
        for batch, target_on_cpu in loader:
            target = target_on_cpu.to(place)
            logits = model(batch.to(place))  # (B, K)
            loss.update(objective(logits, target), len(target))
            overall.update(logits, target)
            each.update(logits, target)
            counts += torch.bincount(target_on_cpu, minlength=len(classes))
    values = {name: float(value) for name, value in overall.compute().items()}
    of_class = each.compute().tolist()
    return Evaluation(
        data=data,
        part=found,
        weights=ready.weights,
        count=len(images),
        accuracy=values["accuracy"],
        top5=values.get("top5"),
        loss=float(loss.compute()),
        per_class=tuple(
            ClassResult(name, count, accuracy)
            for name, count, accuracy in zip(classes, counts.tolist(), of_class, strict=True)
            if count
        ),
    )


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
