"""Evaluates frozen features by scikit-learn's nearest neighbours and logistic regression."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hexavit.data import Source, open_source
from hexavit.data.batches import read_batches
from hexavit.data.source import OnBadImage
from hexavit.errors import DataError, HexavitError
from hexavit.evaluation.run_split import split_to_probe
from hexavit.files import replacing
from hexavit.inference.device import Device
from hexavit.inference.engines import EngineChoice
from hexavit.inference.load_model import ModelSource
from hexavit.inference.predictor import Notify, Predictor, as_predictor
from hexavit.runs.run_folder import Weights

NEIGHBOURS = (1, 3, 5, 10, 20, 50, 100, 200)
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)
"""Values of k, and of the inverse regularisation strength C, that cross-validation chooses from."""

EvaluatedPart = Literal["auto", "val", "test"]
_FOLDS = 5
_STEPS = 1000  # maximum iterations of the logistic regression


@dataclass(frozen=True)
class Fitted:
    """Result of one classifier.

    Attributes:
        setting: ``k`` or ``C``.
        accuracy: top-1 accuracy on the validation images, a fraction of 1.
        top5: top-5 accuracy; None for five classes or fewer.
        chosen: how the setting was chosen: ``given``, by ``cross-validation`` on the training images, or ``default``
            if a class has too few images for cross-validation.
        folds: mean accuracy over the folds of cross-validation.
        converged: whether the optimiser converged.
    """

    setting: float
    accuracy: float
    top5: float | None
    chosen: Literal["given", "cross-validation", "default"]
    folds: float | None = None
    converged: bool = True


@dataclass(frozen=True)
class Probe:
    """Result of :func:`probe`.

    Attributes:
        data: the data set.
        part: the split that the classifiers were evaluated on.
        weights: ``best`` or ``last`` of a run, else a published name or a file.
        train_images: number of images that the classifiers were fitted to.
        held_out_images: number of images that they were evaluated on.
        dimension: size of a feature vector.
        knn: k nearest neighbours by cosine distance, weighted by distance.
        linear: logistic regression on standardised features.
        skipped: names of images that could not be read, each with the reason.
    """

    data: str
    part: str
    weights: str
    train_images: int
    held_out_images: int
    dimension: int
    knn: Fitted
    linear: Fitted
    skipped: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Features:
    """Features of images.

    Attributes:
        vectors: (N, D) in float32: the input of the model's classifier.
        labels: (N,) class indices of the data.
        skipped: names of images that could not be read, each with the reason.
    """

    vectors: NDArray[np.float32]
    labels: NDArray[np.int64]
    skipped: dict[str, str] = field(default_factory=dict)


def probe(
    subject: ModelSource | Predictor,
    data: str,
    *,
    part: EvaluatedPart = "auto",
    k: int | None = None,
    c: float | None = None,
    weights: Weights = "best",
    val_fraction: float | None = None,
    split_seed: int = 0,
    batch_size: int = 64,
    workers: int | None = None,
    device: Device = "auto",
    on_bad_image: OnBadImage = "error",
    cache: str | Path | None = None,
    engine: EngineChoice = "auto",
    notify: Notify | None = None,
) -> Probe:
    """Fit k nearest neighbours and a linear classifier to features of the training images, and evaluate both.

    The model is not trained, and its classifier is not used: the data may have other classes.

    Args:
        subject: a run or its folder, a model name, a file exported with features, or the result of
            :func:`hexavit.inference.load_model` or :func:`hexavit.load_predictor`; the model needs no head.
        data: a data set as in ``hexavit train``; the split is the data's own, the run's, or made as in training.
        part: the split to evaluate on; ``auto`` is ``test`` if there is one, else ``val``.
        k: number of neighbours; by default chosen by cross-validation on the training images.
        c: inverse regularisation strength of the logistic regression; by default chosen likewise.
        weights: of a run, those of the best or of the last epoch.
        val_fraction: fraction of validation images if neither the data nor the run has a split; by default as in
            training.
        split_seed: seed of that split.
        batch_size: images per batch.
        workers: threads that decode images.
        device: where to compute features.
        on_bad_image: ``skip`` leaves out images that cannot be read, ``error`` raises.
        cache: an ``.npz`` file; features in it are reused if weights and image names are the same (a changed image
            under the same name is not noticed), else they are written to it.
        engine: as in :func:`hexavit.load_predictor`; ``auto`` exports a model from 2,000 images on.
        notify: called with sentences about the engine.

    Raises:
        DataError: the data or an image cannot be read, or a split is too small.
    """
    for name, value in (("k", k), ("the batch size", batch_size)):
        if value is not None and value < 1:
            raise HexavitError(f"{name} is at least 1, not {value}")
    if c is not None and not 0 < c < math.inf:
        raise HexavitError(f"C is above 0, not {c:g}")
    source = open_source(data)
    if source.label_sets is not None:
        raise DataError(f"{source.place}: its images have several classes; probes need one class per image")
    predictor = as_predictor(subject, engine=engine, device=device, wanted="features", notify=notify, weights=weights)
    loaded = predictor.info
    split = split_to_probe(loaded.split, source, val_fraction, split_seed)
    if part == "auto":
        part = "test" if "test" in split else "val"
    if part not in split:
        raise DataError(f"{source.place}: this data has no part {part!r}")
    options: dict[str, Any] = {"batch_size": batch_size, "workers": workers}
    if not isinstance(subject, Predictor):
        count = len(split["train"]) + len(split[part])
        predictor.prepare(count, batch_size=batch_size, optimize=False, notify=notify)
    features = _cached(predictor, source, (split["train"], split[part]), on_bad_image, options, cache)
    train, validation = features
    if k is not None and k > len(train.labels):
        raise HexavitError(f"k is at most the number of training images, {len(train.labels)}, not {k}")
    return Probe(
        data=data,
        part=part,
        weights=loaded.weights,
        train_images=len(train.labels),
        held_out_images=len(validation.labels),
        dimension=train.vectors.shape[1],
        knn=_fit(KNeighborsClassifier(metric="cosine", weights="distance"), "n_neighbors", k, NEIGHBOURS, *features),
        linear=_fit(
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=_STEPS)),
            "logisticregression__C",
            c,
            PENALTIES,
            *features,
        ),
        skipped={**train.skipped, **validation.skipped},
    )


def extract(
    predictor: Predictor,
    source: Source,
    numbers: Sequence[int],
    *,
    batch_size: int = 64,
    workers: int | None = None,
    on_bad_image: OnBadImage = "error",
) -> Features:
    """Compute the features of images, the input of the model's classifier.

    Raises:
        DataError: an image cannot be read and is not to be skipped, or none can be read.
    """
    skipped: dict[str, str] | None = {} if on_bad_image == "skip" else None
    vectors: list[NDArray[np.float32]] = []
    read: list[int] = []
    for of_batch, pixels in read_batches(
        source, numbers, predictor.transform(), batch_size=batch_size, workers=workers, skipped=skipped
    ):
        found = predictor.compute(pixels, logits=False, features=True).features
        assert found is not None  # as requested
        vectors.append(found.float().cpu().numpy())
        read += of_batch
    if not read:
        raise DataError(f"{source.place}: no image can be read")
    labels = np.array([source.labels[number] for number in read], dtype=np.int64)
    return Features(np.concatenate(vectors), labels, skipped or {})


def _fit(
    model: Any, name: str, given: float | None, choices: Sequence[float], train: Features, validation: Features
) -> Fitted:
    smallest = min(Counter(train.labels.tolist()).values())
    folds = min(_FOLDS, smallest)
    if name == "n_neighbors":  # at most the images of the other folds
        choices = [each for each in choices if each <= len(train.labels) * (folds - 1) // max(folds, 1)] or [1]
    if len(np.unique(train.labels)) < 2:
        raise DataError("the training images are all of one class; at least two are needed")
    setting, share = given, None
    chosen: Literal["given", "cross-validation", "default"] = "given"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if setting is None and folds >= 2:
            shuffled = StratifiedKFold(folds, shuffle=True, random_state=0)
            search = GridSearchCV(model, {name: list(choices)}, cv=shuffled, refit=False)
            search.fit(train.vectors, train.labels)
            setting, share, chosen = search.best_params_[name], float(search.best_score_), "cross-validation"
        caught.clear()  # convergence matters only for the chosen setting
        if setting is None:
            setting, chosen = 1, "default"
        model.set_params(**{name: setting}).fit(train.vectors, train.labels)
        converged = not any(issubclass(each.category, ConvergenceWarning) for each in caught)
    probabilities = model.predict_proba(validation.vectors)  # (N, classes of train)
    order = model.classes_[np.argsort(-probabilities, axis=1, kind="stable")]
    hits = order == validation.labels[:, None]
    top5 = float(hits[:, :5].any(axis=1).mean()) if len(model.classes_) > 5 else None
    return Fitted(setting, float(hits[:, 0].mean()), top5, chosen, share, converged)


def _cached(
    predictor: Predictor,
    source: Source,
    parts: tuple[Sequence[int], Sequence[int]],
    on_bad_image: OnBadImage,
    options: dict[str, Any],
    cache: str | Path | None,
) -> tuple[Features, Features]:
    path = None if cache is None else Path(cache)
    key = "" if path is None else _key(predictor, source, parts)
    if path is not None and path.suffix != ".npz":
        raise HexavitError(f"{path}: features are kept in an .npz file")
    if path is not None and path.is_file() and (kept := _read(path, key)) is not None:
        return kept
    first, second = (extract(predictor, source, numbers, on_bad_image=on_bad_image, **options) for numbers in parts)
    if path is not None and not first.skipped and not second.skipped:
        arrays: dict[str, Any] = {"vectors_0": first.vectors, "labels_0": first.labels}
        arrays |= {"vectors_1": second.vectors, "labels_1": second.labels}
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, key=np.array(key), **arrays)
    return first, second


def _read(path: Path, key: str) -> tuple[Features, Features] | None:
    """The cached features if they are of the same weights and images, else None."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            if str(kept["key"]) != key:
                return None
            first, second = (Features(kept[f"vectors_{n}"], kept[f"labels_{n}"]) for n in (0, 1))
            return first, second
    except Exception as error:  # NumPy and zipfile raise many types for a damaged file
        raise HexavitError(f"{path}: this file holds no features ({' '.join(str(error).split())})") from error


def _key(predictor: Predictor, source: Source, parts: Sequence[Sequence[int]]) -> str:
    facts = f"{source.identity} {predictor.info.input_spec} {predictor.checksum()}"
    checksum = hashlib.blake2b(facts.encode(errors="surrogateescape"))
    for numbers in parts:
        names = "\n".join(f"{source.labels[number]} {source.names[number]}" for number in numbers)
        checksum.update(names.encode(errors="surrogateescape") + b"\0")
    return checksum.hexdigest()
