"""What frozen features are worth: nearest neighbours and a linear classifier on them, by scikit-learn."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hexavit.data import Source, Split, open_source
from hexavit.data.batches import read_batches
from hexavit.data.source import OnBadImage
from hexavit.data.split import from_record, make_split
from hexavit.errors import DataError, HexavitError
from hexavit.files import replacing
from hexavit.inference.device import Device, pick_device
from hexavit.inference.load_model import Ready, Subject, made_ready
from hexavit.runs.run_folder import Weights

NEIGHBOURS = (1, 3, 5, 10, 20, 50, 100, 200)
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)
"""Among which cross-validation chooses k, and C: the inverse of the penalty."""

HeldOut = Literal["auto", "val", "test"]
_FOLDS = 5
_STEPS = 1000  # of the linear classifier's optimiser


@dataclass(frozen=True)
class Fitted:
    """What one classifier reached.

    Attributes:
        setting: ``k``, or ``C``.
        accuracy: share of the held-out images that it gets right.
        top5: share of those whose class is among its five first; nothing where there are five classes or less.
        chosen: how the setting was found: ``given``, or by ``cross-validation`` on the training images, with the mean
            accuracy over its folds; or ``default``, where a class has too few images for that.
        folds: that accuracy.
        converged: whether the optimiser came to rest.
    """

    setting: float
    accuracy: float
    top5: float | None
    chosen: Literal["given", "cross-validation", "default"]
    folds: float | None = None
    converged: bool = True


@dataclass(frozen=True)
class Probe:
    """What :func:`probe` found.

    Attributes:
        data: the data.
        part: the part that was held out.
        weights: ``best`` or ``last`` of a run, else a published name or a file.
        train_images: whose features the classifiers were fitted to.
        held_out_images: on which they were judged.
        dimension: of a feature vector.
        knn: nearest neighbours by the cosine, a near one counting more.
        linear: logistic regression on features of mean 0 and deviation 1.
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
    """Of some images.

    Attributes:
        vectors: (N, D), of float32: what the classifier of the model would read.
        labels: (N,), of the data's classes.
        skipped: names of images that could not be read, each with the reason.
    """

    vectors: NDArray[np.float32]
    labels: NDArray[np.int64]
    skipped: dict[str, str] = field(default_factory=dict)


def probe(
    subject: Subject,
    data: str,
    *,
    part: HeldOut = "auto",
    k: int | None = None,
    c: float | None = None,
    weights: Weights = "best",
    val_fraction: float = 0.2,
    split_seed: int = 0,
    batch_size: int = 64,
    workers: int | None = None,
    device: Device = "auto",
    on_bad_image: OnBadImage = "error",
    cache: str | Path | None = None,
) -> Probe:
    """Fit k nearest neighbours and a linear classifier to the features of the training images, and judge both.

    The model is not trained, and its own classifier is not used: its classes may be others than the data's, or none.

    Args:
        subject: a run or its folder, a model's name, or what :func:`hexavit.inference.open_model` gave; a head is not
            needed.
        data: what training takes; the split is the data's own, or the run's, or made as training makes it.
        part: on which they are judged; ``auto`` is ``test`` where there is one, else ``val``.
        k: how many neighbours are asked; by default chosen by cross-validation on the training images.
        c: the inverse of the linear classifier's penalty; by default chosen so too.
        weights: of a run, those of the best or of the last epoch.
        val_fraction: held out, where neither the data nor the run says what is.
        split_seed: of that split.
        batch_size: images that go through the model at once.
        workers: threads that decode images.
        device: where to compute features.
        on_bad_image: ``skip`` leaves out what cannot be read, ``error`` refuses it.
        cache: an ``.npz`` file: features in it are used again if they are those of the same weights and images by
            name (an image changed in place is not noticed), else written there.

    Raises:
        DataError: when the data or an image cannot be read, or a part is too small.
    """
    for name, value in (("k", k), ("the batch size", batch_size)):
        if value is not None and value < 1:
            raise HexavitError(f"{name} is at least 1, not {value}")
    if c is not None and not 0 < c < math.inf:
        raise HexavitError(f"C is above 0, not {c:g}")
    source = open_source(data)
    ready = made_ready(subject, weights, headless=True)
    split = _split(ready, source, val_fraction, split_seed)
    if part == "auto":
        part = "test" if "test" in split else "val"
    if part not in split:
        raise DataError(f"{source.place}: this data has no part {part!r}")
    options: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "device": device}
    features = _cached(ready, source, (split["train"], split[part]), on_bad_image, options, cache)
    train, held_out = features
    if k is not None and k > len(train.labels):
        raise HexavitError(f"k is at most the number of training images, {len(train.labels)}, not {k}")
    return Probe(
        data=data,
        part=part,
        weights=ready.weights,
        train_images=len(train.labels),
        held_out_images=len(held_out.labels),
        dimension=train.vectors.shape[1],
        knn=_fit(KNeighborsClassifier(metric="cosine", weights="distance"), "n_neighbors", k, NEIGHBOURS, *features),
        linear=_fit(
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=_STEPS)),
            "logisticregression__C",
            c,
            PENALTIES,
            *features,
        ),
        skipped={**train.skipped, **held_out.skipped},
    )


@torch.inference_mode()
def extract(
    ready: Ready,
    source: Source,
    numbers: Sequence[int],
    *,
    batch_size: int = 64,
    workers: int | None = None,
    device: Device = "auto",
    on_bad_image: OnBadImage = "error",
) -> Features:
    """The features of images, before the model's classifier.

    Raises:
        DataError: when an image cannot be read, unless it is to be skipped; or none can.
    """
    skipped: dict[str, str] | None = {} if on_bad_image == "skip" else None
    place = pick_device(device)
    model = cast("Any", ready.model.to(place))
    vectors: list[NDArray[np.float32]] = []
    read: list[int] = []
    for of_batch, pixels in read_batches(
        source, numbers, ready.input_spec, batch_size=batch_size, workers=workers, skipped=skipped
    ):
        tokens = model.forward_features(ready.input_spec.normalise(pixels.to(place)))
        vectors.append(model.forward_head(tokens, pre_logits=True).float().cpu().numpy())
        read += of_batch
    if not read:
        raise DataError(f"{source.place}: no image can be read")
    labels = np.array([source.labels[number] for number in read], dtype=np.int64)
    return Features(np.concatenate(vectors), labels, skipped or {})


def _split(ready: Ready, source: Source, fraction: float, seed: int) -> Split:
    """What the model was trained on is what is fitted to; else as training would split."""
    record = ready.split
    if record and record["data"] == source.identity:
        return from_record(source, dict(record))
    if "train" in source.parts and "test" in source.parts:
        return source.parts  # nothing need be held out of train
    return make_split(source, fraction, seed)


def _fit(
    model: Any, name: str, given: float | None, choices: Sequence[float], train: Features, held_out: Features
) -> Fitted:
    smallest = min(Counter(train.labels.tolist()).values())
    folds = min(_FOLDS, smallest)
    if name == "n_neighbors":  # no more than are left when a fold is held out
        choices = [each for each in choices if each <= len(train.labels) * (folds - 1) // max(folds, 1)] or [1]
    if len(np.unique(train.labels)) < 2:
        raise DataError("the training images are of one class, so there is nothing to tell apart")
    setting, share = given, None
    chosen: Literal["given", "cross-validation", "default"] = "given"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if setting is None and folds >= 2:
            shuffled = StratifiedKFold(folds, shuffle=True, random_state=0)
            search = GridSearchCV(model, {name: list(choices)}, cv=shuffled, refit=False)
            search.fit(train.vectors, train.labels)
            setting, share, chosen = search.best_params_[name], float(search.best_score_), "cross-validation"
        told.clear()  # that a setting which was not chosen did not converge does not matter
        if setting is None:
            setting, chosen = 1, "default"
        model.set_params(**{name: setting}).fit(train.vectors, train.labels)
        converged = not any(issubclass(each.category, ConvergenceWarning) for each in told)
    probabilities = model.predict_proba(held_out.vectors)  # (N, classes of train)
    order = model.classes_[np.argsort(-probabilities, axis=1, kind="stable")]
    hits = order == held_out.labels[:, None]
    top5 = float(hits[:, :5].any(axis=1).mean()) if len(model.classes_) > 5 else None
    return Fitted(setting, float(hits[:, 0].mean()), top5, chosen, share, converged)


def _cached(
    ready: Ready,
    source: Source,
    parts: tuple[Sequence[int], Sequence[int]],
    on_bad_image: OnBadImage,
    options: dict[str, Any],
    cache: str | Path | None,
) -> tuple[Features, Features]:
    path = None if cache is None else Path(cache)
    key = "" if path is None else _key(ready, source, parts)
    if path is not None and path.suffix != ".npz":
        raise HexavitError(f"{path}: features are kept in an .npz file")
    if path is not None and path.is_file() and (kept := _read(path, key)) is not None:
        return kept
    first, second = (extract(ready, source, numbers, on_bad_image=on_bad_image, **options) for numbers in parts)
    if path is not None and not first.skipped and not second.skipped:
        arrays: dict[str, Any] = {"vectors_0": first.vectors, "labels_0": first.labels}
        arrays |= {"vectors_1": second.vectors, "labels_1": second.labels}
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, key=np.array(key), **arrays)
    return first, second


def _read(path: Path, key: str) -> tuple[Features, Features] | None:
    """What is kept, if it is of the same weights and images."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            if str(kept["key"]) != key:
                return None
            first, second = (Features(kept[f"vectors_{n}"], kept[f"labels_{n}"]) for n in (0, 1))
            return first, second
    except Exception as error:  # NumPy and zipfile answer a damaged file with many kinds
        raise HexavitError(f"{path}: this file holds no features ({' '.join(str(error).split())})") from error


def _key(ready: Ready, source: Source, parts: Sequence[Sequence[int]]) -> str:
    digest = hashlib.blake2b(f"{source.identity} {ready.input_spec}".encode(errors="surrogateescape"))
    for name, value in sorted(ready.model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    for numbers in parts:
        names = "\n".join(f"{source.labels[number]} {source.names[number]}" for number in numbers)
        digest.update(names.encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()
