"""Predicts the classes of image files, and computes their features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hexavit.errors import DataError, HexavitError
from hexavit.images.listing import OnError, checked, iter_images, raise_error
from hexavit.images.prefetch import Decoded, cores, decode_ahead
from hexavit.inference.acceleration import FROM_IMAGES, optimized
from hexavit.inference.device import Device, pick_device
from hexavit.inference.load_model import LoadedModel, ModelSource, as_loaded
from hexavit.runs.run_folder import Weights


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    Attributes:
        image: the file.
        top: class names with probabilities (fractions of 1), most probable first.
        features: the input of the classifier, (D,) in float32, if requested.
        classes: names of the classes that reach their thresholds, most probable first, if the model predicts several
            classes per image or none; None for one class per image.
    """

    image: Path
    top: tuple[tuple[str, float], ...]
    features: NDArray[np.float32] | None = None
    classes: tuple[str, ...] | None = None

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON, without the features."""
        top = [{"class": name, "probability": round(probability, 6)} for name, probability in self.top]
        several = {} if self.classes is None else {"classes": list(self.classes)}
        return {"image": str(self.image), **several, "top": top}


def predict(
    source: ModelSource,
    images: Iterable[str | Path],
    *,
    top: int = 3,
    batch_size: int = 64,
    weights: Weights = "best",
    device: Device = "auto",
    threads: int | None = None,
    features: bool = False,
    on_error: OnError = raise_error,
    optimize: bool | None = None,
) -> Iterator[Prediction]:
    """Predict the classes of image files in batches. Memory does not grow with the number of images.

    ```python title="Not run: needs photographs"
    from hexavit.inference import load_model, predict

    for found in predict(load_model("cvt_13.in1k"), ["photos", "more/*.jpg"], top=1):
        print(found.image, *found.top[0])
    ```

    Args:
        source: a run or its folder, a model name, or the result of :func:`load_model`.
        images: files, folders (searched recursively) and patterns such as ``photos/**/*.jpg``. Paths of a list or tuple
            are checked before anything is computed; an iterator is consumed as needed.
        top: number of classes per image, at most all.
        batch_size: images per batch.
        weights: of a run, those of the best or of the last epoch.
        device: where to compute.
        threads: threads that decode; by default one per core. 0 decodes between the batches.
        features: compute the input of the classifier, too.
        on_error: called with a `DataError` for each image that cannot be read; if it returns, the other images are
            predicted. The default raises.
        optimize: use :func:`hexavit.optimize`; by default on CPUs from the 2,000th image on.

    Yields:
        One prediction per readable image, in the order given.

    Raises:
        DataError: a path of a list does not exist, or an image cannot be read.
        RunError: the run cannot be read.
    """
    for name, value, least in (("top", top, 1), ("the batch size", batch_size, 1), ("threads", threads or 0, 0)):
        if value < least:
            raise HexavitError(f"{name} is at least {least}, not {value}")
    named = checked(images) if isinstance(images, Sequence) and on_error is raise_error else images
    place = pick_device(device)
    loaded = as_loaded(source, weights, headless=features)
    if not loaded.classes and not features:
        raise HexavitError("this model has no classifier, so it predicts no classes; request its features instead")
    found = iter_images(named, on_error)
    decoded = decode_ahead(
        found, loaded.input_spec.pixels(), cores() if threads is None else threads, ahead=2 * batch_size
    )
    readable = _readable(decoded, on_error)
    return _predict(loaded, readable, place, min(top, len(loaded.classes)), batch_size, features, optimize)


def _readable(decoded: Iterator[Decoded], on_error: OnError) -> Iterator[tuple[Path, Tensor]]:
    for path, made in decoded:
        if isinstance(made, DataError):
            on_error(made)
        else:
            yield path, made


@torch.inference_mode()
def _predict(
    loaded: LoadedModel,
    images: Iterator[tuple[Path, Tensor]],
    place: torch.device,
    top: int,
    batch_size: int,
    wanted: bool,
    optimize: bool | None,
) -> Iterator[Prediction]:
    model = cast("Any", loaded.model.to(place))
    faster = partial(optimized, model, place, optimize, img_size=loaded.input_spec.size, batch_size=batch_size)
    if optimize:
        model = cast("Any", faster(images=0))
    done = 0
    while chunk := list(islice(images, batch_size)):
        # The number of images is unknown: optimise once as many are done as would pay for it.
        if optimize is None and done < FROM_IMAGES <= done + len(chunk):
            model = cast("Any", faster(images=FROM_IMAGES))
        done += len(chunk)
        batch = loaded.input_spec.normalise(torch.stack([pixels for _, pixels in chunk]).to(place))  # (B, C, H, W)
        tokens = model.forward_features(batch)
        vectors = model.forward_head(tokens, pre_logits=True).float().cpu().numpy() if wanted else [None] * len(chunk)
        if not loaded.classes:
            yield from (Prediction(path, (), vector) for (path, _), vector in zip(chunk, vectors, strict=True))
            continue
        probabilities = loaded.probabilities(model.forward_head(tokens)).cpu()
        tops, several = _top_classes(probabilities, loaded.classes, top), _several(probabilities, loaded)
        for (path, _), best, vector, classes in zip(chunk, tops, vectors, several, strict=True):
            yield Prediction(path, best, vector, classes)


def _several(probabilities: Tensor, loaded: LoadedModel) -> list[tuple[str, ...] | None]:
    """For each image the classes that reach their thresholds, most probable first; None for one class per image."""
    if loaded.thresholds is None:
        return [None] * len(probabilities)
    reached = probabilities.double() >= torch.tensor(loaded.thresholds, dtype=torch.float64)
    order = probabilities.argsort(dim=-1, descending=True, stable=True)
    return [
        tuple(loaded.classes[i] for i in by_probability if row[i])
        for row, by_probability in zip(reached.tolist(), order.tolist(), strict=True)
    ]


def _top_classes(probabilities: Tensor, classes: Sequence[str], top: int) -> list[tuple[tuple[str, float], ...]]:
    """The most probable classes of each image from probabilities (B, K)."""
    found = probabilities.topk(top, dim=-1)  # (B, top) twice
    return [
        tuple((classes[i], value) for i, value in zip(indices, values, strict=True))
        for values, indices in zip(found.values.tolist(), found.indices.tolist(), strict=True)
    ]
