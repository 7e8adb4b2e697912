"""Accuracy, loss and calibration of a trained model on labelled images."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from inspect import signature
from typing import Any, Literal, ParamSpec

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.classification import MulticlassCalibrationError

from hexavit._deprecated import renamed
from hexavit.data import Source, open_source
from hexavit.data.batches import read_batches
from hexavit.data.source import OnBadImage
from hexavit.errors import DataError, HexavitError, nearest
from hexavit.evaluation.metrics import MeanLoss, accuracies, figure
from hexavit.evaluation.multilabel import MultilabelPredictions
from hexavit.evaluation.predictions import BINS, ClassResult, Confused, Predictions
from hexavit.evaluation.run_split import Part, choose_part
from hexavit.inference.device import Device
from hexavit.inference.engines import EngineChoice
from hexavit.inference.load_model import ModelSource
from hexavit.inference.model_info import ModelInfo
from hexavit.inference.predictor import Notify, Predictor, as_predictor
from hexavit.runs.run_folder import Weights

P = ParamSpec("P")
Among = Literal["model", "data"]

__getattr__ = renamed(
    __name__, {"judge": f"{__name__}.evaluate_with_predictions", "Judged": f"{__name__}.DetailedEvaluation"}
)


class TrainingImagesWarning(UserWarning):
    """The evaluated images may include images that the model was trained on."""


@dataclass(frozen=True)
class Evaluation:
    """The metrics that ``evaluate`` computes.

    Attributes:
        data: the data set.
        part: the split that was evaluated: ``train``, ``val``, ``test``, ``new`` or ``all``.
        weights: ``best`` or ``last`` of a run, else a published name or a file.
        count: number of images.
        accuracy: top-1 accuracy, a fraction of 1; where images have several classes, the share of the images of which
            every class is right.
        top5: top-5 accuracy; None for five classes or fewer.
        loss: mean cross-entropy in nats, binary where images have several classes.
        interval: 95 % bootstrap confidence interval of the accuracy.
        ece: expected calibration error over 15 bins of confidence.
        macro_f1: mean F1 of the classes that occur.
        per_class: the classes that occur, in the order of the logits.
        confused: every pair of confused classes, the most frequent first.
        among: whether predictions were among all classes of the ``model`` or only those of the ``data``.
        left_out: number of images of each class that the model does not have; they were not evaluated.
        skipped: names of images that could not be read, each with the reason.
        model: name of the architecture; empty if unknown.
        source: what the model was loaded from, such as a run folder; empty if unknown.
        notes: sentences about the choice of images.
        training_images: True if the evaluated images may include training images although none were asked for.
        mean_average_precision: mean over the classes of the average precision (mAP), where images have several classes.
        micro_f1: F1 over all classes of all images, where images have several classes.
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
    model: str = ""
    source: str = ""
    notes: tuple[str, ...] = ()
    training_images: bool = False
    mean_average_precision: float | None = None
    micro_f1: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class DetailedEvaluation:
    """An evaluation with the prediction for every image.

    Attributes:
        evaluation: the metrics.
        predictions: one per image.
        classes: class names; ``predictions`` holds indices into them.
        source: the images.
    """

    evaluation: Evaluation
    predictions: Predictions | MultilabelPredictions
    classes: Sequence[str]
    source: Source


@torch.inference_mode()
def evaluate_with_predictions(
    subject: ModelSource | Predictor,
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
    engine: EngineChoice = "auto",
    notify: Notify | None = None,
) -> DetailedEvaluation:
    """Evaluate a model on labelled images and keep the prediction for every image.

    Args:
        subject: a run or its folder, a model name, an exported file, or the result of
            :func:`hexavit.inference.load_model` or :func:`hexavit.load_predictor`.
        data: a data set as in ``hexavit train``; its classes must be classes of the model.
        part: the split; ``auto`` is ``test`` if there is one, else the validation images of the run, else the images
            that the run does not know, else all. A run's split is found again by image name, or by content in data
            that was moved or renamed.
        weights: of a run, those of the best or of the last epoch.
        batch_size: images per batch; no metric depends on it.
        workers: threads that decode images.
        device: where to compute.
        among: predict among all classes of the ``model``, or only those of the ``data``, as to evaluate an ImageNet-22k
            model on ImageNet-1k. With ``data``, images of classes that the model does not have are left out and
            counted.
        on_bad_image: ``skip`` leaves out images that cannot be read and lists them in the result; ``error`` raises.
        optimize: use :func:`hexavit.optimize`; by default on CPUs from 2,000 images on, without another engine.
        engine: as in :func:`hexavit.load_predictor`; ``auto`` exports a model from 2,000 images on.
        notify: called with sentences about the engine.

    Raises:
        DataError: the data is missing or unreadable, has classes that the model does not have, lacks that split, or
            consists of training images that were not asked for.
        RunError: the run cannot be read.

    Warns:
        TrainingImagesWarning: the images may include training images.
    """
    if batch_size < 1:
        raise HexavitError(f"the batch size is at least 1, not {batch_size}")
    source = open_source(data)
    predictor = as_predictor(subject, engine=engine, device=device, optimize=optimize, notify=notify, weights=weights)
    loaded = predictor.info
    if not loaded.classes:
        raise HexavitError(f"{loaded.source or 'this model'} has no classifier, so it predicts no classes")
    choice = _choose_classes(source, loaded, among)
    chosen = choose_part(loaded.split, source, part)
    if chosen.training_images:
        warnings.warn(" ".join(chosen.notes), TrainingImagesWarning, stacklevel=3)
    labels = {number: [choice.labels[label] for label in source.labels_of(number)] for number in chosen.numbers}
    left_out = Counter(
        source.classes[label]
        for number, known in labels.items()
        for label, index in zip(source.labels_of(number), known, strict=True)
        if index is None
    )
    several = loaded.thresholds is not None
    numbers = [number for number, known in labels.items() if several or None not in known]
    if not numbers:
        raise DataError(f"{source.place}: its split {chosen.part!r} has no images")
    skipped: dict[str, str] | None = {} if on_bad_image == "skip" else None
    batches = read_batches(
        source, numbers, predictor.transform(), batch_size=batch_size, workers=workers, skipped=skipped
    )
    if not isinstance(subject, Predictor):
        predictor.prepare(len(numbers), batch_size=batch_size, optimize=optimize, notify=notify)
    place = predictor.device
    columns = None if choice.columns is None else torch.tensor(choice.columns, device=place)
    metrics: _Metrics | _MultilabelMetrics
    metrics = _MultilabelMetrics(choice, loaded) if several else _Metrics(len(choice.classes), place)
    for of_batch, pixels in batches:
        logits = predictor.compute(pixels).logits  # (B, K)
        assert logits is not None  # as requested
        known = [[label for label in labels[number] if label is not None] for number in of_batch]
        metrics.add(of_batch, logits if columns is None else logits[:, columns], known)
    if not metrics.rows:
        raise DataError(f"{source.place}: no image of its split {chosen.part!r} can be read")
    predictions, values = metrics.result(choice.classes)
    evaluation = Evaluation(
        data=data,
        part=chosen.part,
        weights=loaded.weights,
        count=len(predictions.numbers),
        **values,
        among=among,
        left_out=dict(left_out),
        skipped=skipped or {},
        model=loaded.architecture_name,
        source=loaded.source,
        notes=chosen.notes,
        training_images=chosen.training_images,
    )
    return DetailedEvaluation(evaluation, predictions, choice.classes, source)


def _metrics_only(detailed: Callable[P, DetailedEvaluation]) -> Callable[P, Evaluation]:
    def evaluate(*args: P.args, **options: P.kwargs) -> Evaluation:
        """Evaluate a model on labelled images; the arguments are those of :func:`evaluate_with_predictions`."""
        return detailed(*args, **options).evaluation

    # `inspect.signature` reads this attribute, which the type of a function does not declare.
    evaluate.__signature__ = signature(detailed).replace(  # type: ignore[attr-defined]
        return_annotation="Evaluation"
    )
    return evaluate


evaluate = _metrics_only(evaluate_with_predictions)


class _Metrics:
    """Metrics accumulated over batches, for `count` classes."""

    def __init__(self, count: int, place: torch.device) -> None:
        self.rows: list[tuple[Tensor, ...]] = []
        self._accuracies, self._loss = accuracies(count).to(place), MeanLoss().to(place)
        self._calibration = MulticlassCalibrationError(count, n_bins=BINS).to(place)

    def add(self, numbers: Sequence[int], logits: Tensor, labels: Sequence[Sequence[int]]) -> None:
        """Add a batch: image numbers (B,), logits (B, count) and the true class of each image."""
        target = torch.tensor([label for (label,) in labels], device=logits.device)
        self._loss.update(F.cross_entropy(logits.float(), target), len(target))
        self._accuracies.update(logits, target)
        probabilities = logits.float().softmax(dim=-1)
        self._calibration.update(probabilities, target)
        confidence, predicted = probabilities.max(dim=-1)
        of_truth = probabilities.gather(1, target[:, None]).squeeze(1)
        row = (torch.tensor(numbers), target, predicted, confidence, of_truth)
        self.rows.append(tuple(each.cpu() for each in row))

    def result(self, classes: Sequence[str]) -> tuple[Predictions, dict[str, Any]]:
        """The prediction of each image, and metrics over all images by their names in `Evaluation`."""
        predictions = Predictions(*(torch.cat(column).numpy() for column in zip(*self.rows, strict=True)))
        values = {name: figure(value) for name, value in self._accuracies.compute().items()}
        per_class = predictions.per_class(classes)
        return predictions, {
            "interval": predictions.interval(),
            "macro_f1": sum(each.f1 for each in per_class) / len(per_class),
            "per_class": per_class,
            "confused": predictions.confused(classes),
            "accuracy": values["accuracy"],
            "top5": values.get("top5"),
            "loss": figure(self._loss.compute()),
            "ece": figure(self._calibration.compute()),
        }


class _MultilabelMetrics:
    """The same for a model that predicts several classes per image."""

    def __init__(self, choice: _ClassChoice, loaded: ModelInfo) -> None:
        self.rows: list[tuple[Tensor, ...]] = []
        self._loaded = loaded
        self._columns = choice.columns or range(len(choice.classes))

    def add(self, numbers: Sequence[int], logits: Tensor, labels: Sequence[Sequence[int]]) -> None:
        """Add a batch: image numbers (B,), logits (B, count) and the true classes of each image."""
        truths = torch.zeros(logits.shape, dtype=torch.bool)
        for row, known in zip(truths, labels, strict=True):
            row[list(known)] = True
        self.rows.append((torch.tensor(numbers), truths, self._loaded.probabilities(logits).double().cpu()))

    def result(self, classes: Sequence[str]) -> tuple[MultilabelPredictions, dict[str, Any]]:
        """The predictions, and metrics over all images by their names in `Evaluation`."""
        thresholds = np.array(self._loaded.thresholds)[list(self._columns)]
        numbers, truths, probabilities = (torch.cat(column).numpy() for column in zip(*self.rows, strict=True))
        predictions = MultilabelPredictions(numbers, truths, probabilities, thresholds)
        return predictions, predictions.values(classes)


@dataclass(frozen=True)
class _ClassChoice:
    """The classes that are predicted among.

    Attributes:
        classes: their names.
        columns: their columns in the logits; None for all.
        labels: for each class of the data its index in ``classes``, or None if the model does not have it.
    """

    classes: Sequence[str]
    columns: list[int] | None
    labels: list[int | None]


def _choose_classes(source: Source, loaded: ModelInfo, among: Among) -> _ClassChoice:
    if source.label_sets is not None and loaded.thresholds is None:
        raise DataError(f"{source.place}: its images have several classes, and the model predicts one class per image")
    numbers = {**loaded.synonyms, **{name: i for i, name in enumerate(loaded.classes)}}
    unknown = [name for name in source.classes if name not in numbers]
    known = [name for name in source.classes if name in numbers]
    if unknown and (among == "model" or len(known) < 2):
        near = nearest(unknown[0], loaded.classes)
        raise DataError(f"{source.place}: the model knows no class {unknown[0]!r}: {near}")
    if among == "model":
        return _ClassChoice(loaded.classes, None, [numbers[name] for name in source.classes])
    columns = [numbers[name] for name in known]
    places = {name: place for place, name in enumerate(known)}
    return _ClassChoice([loaded.classes[i] for i in columns], columns, [places.get(name) for name in source.classes])
