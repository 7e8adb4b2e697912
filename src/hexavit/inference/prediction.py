"""The classes of image files, most probable first, and the features behind them."""

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
from hexavit.inference.load_model import Ready, Subject, made_ready
from hexavit.runs.run_folder import Weights


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image.

    Attributes:
        image: the file.
        top: class names with their probabilities (fractions of 1), most probable first.
        features: the vector (D,) before the classifier, of float32, if it was asked for.
    """

    image: Path
    top: tuple[tuple[str, float], ...]
    features: NDArray[np.float32] | None = None

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON, without the features."""
        top = [{"class": name, "probability": round(probability, 6)} for name, probability in self.top]
        return {"image": str(self.image), "top": top}


def predict(
    source: Subject,
    images: Iterable[str | Path],
    *,
    top: int = 3,
    batch_size: int = 64,
    weights: Weights = "best",
    device: Device = "auto",
    threads: int | None = None,
    features: bool = False,
    refuse: OnError = raise_error,
    optimize: bool | None = None,
) -> Iterator[Prediction]:
    """Predict files, batch by batch while others are decoded: memory does not grow with their number.

    ```python title="Not run: needs photographs"
    from hexavit.inference import open_model, predict

    for found in predict(open_model("cvt_13.in1k"), ["photos", "more/*.jpg"], top=1):
        print(found.image, *found.top[0])
    ```

    Args:
        source: a run or its folder, a model's name, or what :func:`open_model` gave.
        images: files, folders (searched in depth) and patterns such as ``photos/**/*.jpg``; nothing is fetched. A list
            or tuple is looked through before anything is computed; of an iterator only what is needed next is taken.
        top: how many classes to give for each image; all of them when there are fewer.
        batch_size: images that go through the model at once.
        weights: of a run, those of the best or of the last epoch.
        device: where to compute.
        threads: that decode; by default one a core. 0 decodes between the batches.
        features: give the vector before the classifier as well.
        optimize: use :func:`hexavit.optimize`; by default on CPUs, from the 2,000th image on.
        refuse: told, as a `DataError` that names it, of each image that cannot be read; if it returns, the others go
            on. By default it is raised.

    Yields:
        One prediction a readable image, in the order given.

    Raises:
        DataError: naming the first path of a list that does not exist, before anything is computed; or, by default,
            the first image that cannot be read, when its turn comes.
        RunError: when the run cannot be read.
    """
    for name, value, least in (("top", top, 1), ("the batch size", batch_size, 1), ("threads", threads or 0, 0)):
        if value < least:
            raise HexavitError(f"{name} is at least {least}, not {value}")
    named = checked(images) if isinstance(images, Sequence) and refuse is raise_error else images
    place = pick_device(device)
    ready = made_ready(source, weights, headless=features)
    if not ready.classes and not features:
        raise HexavitError("this model has no head, so it names no classes; its features can be had")
    found = iter_images(named, refuse)
    decoded = decode_ahead(
        found, ready.input_spec.pixels(), cores() if threads is None else threads, ahead=2 * batch_size
    )
    readable = _readable(decoded, refuse)
    return _predict(ready, readable, place, min(top, len(ready.classes)), batch_size, features, optimize)


def _readable(decoded: Iterator[Decoded], refuse: OnError) -> Iterator[tuple[Path, Tensor]]:
    for path, made in decoded:
        if isinstance(made, DataError):
            refuse(made)
        else:
            yield path, made


@torch.inference_mode()
def _predict(
    ready: Ready,
    images: Iterator[tuple[Path, Tensor]],
    place: torch.device,
    top: int,
    batch_size: int,
    wanted: bool,
    optimize: bool | None,
) -> Iterator[Prediction]:
    model = cast("Any", ready.model.to(place))
    faster = partial(optimized, model, place, optimize, img_size=ready.input_spec.size, batch_size=batch_size)
    if optimize:
        model = cast("Any", faster(images=0))
    done = 0
    while chunk := list(islice(images, batch_size)):
        # A list has no known length: as many images as are behind may be ahead.
        if optimize is None and done < FROM_IMAGES <= done + len(chunk):
            model = cast("Any", faster(images=FROM_IMAGES))
        done += len(chunk)
        batch = ready.input_spec.normalise(torch.stack([pixels for _, pixels in chunk]).to(place))  # (B, C, H, W)
        tokens = model.forward_features(batch)
        vectors = model.forward_head(tokens, pre_logits=True).float().cpu().numpy() if wanted else [None] * len(chunk)
        answers = _answers(model.forward_head(tokens), ready.classes, top) if ready.classes else [()] * len(chunk)
        for (path, _), answer, vector in zip(chunk, answers, vectors, strict=True):
            yield Prediction(path, answer, vector)


def _answers(logits: Tensor, classes: Sequence[str], top: int) -> list[tuple[tuple[str, float], ...]]:
    """The most probable classes of each image, from logits (B, K)."""
    found = logits.float().softmax(dim=-1).topk(top, dim=-1)  # (B, top) twice
    return [
        tuple((classes[i], value) for i, value in zip(indices, values, strict=True))
        for values, indices in zip(found.values.tolist(), found.indices.tolist(), strict=True)
    ]
