"""Predicts the classes of image files, and computes their features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from hexavit.errors import HexavitError
from hexavit.images.listing import OnError, checked, iter_images, raise_error
from hexavit.inference.acceleration import FROM_IMAGES
from hexavit.inference.device import Device
from hexavit.inference.engines import EngineChoice
from hexavit.inference.load_model import ModelSource
from hexavit.inference.outputs import Prediction
from hexavit.inference.predictor import Notify, Predictor, as_predictor
from hexavit.runs.run_folder import Weights

__all__ = ["Prediction", "predict"]


def predict(
    source: ModelSource | Predictor,
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
    engine: EngineChoice = "auto",
    shard: tuple[int, int] | None = None,
    notify: Notify | None = None,
) -> Iterator[Prediction]:
    """Predict the classes of image files in batches. Memory does not grow with the number of images.

    ```python title="Not run: needs photographs"
    from hexavit.inference import load_model, predict

    for found in predict(load_model("cvt_13.in1k"), ["photos", "more/*.jpg"], top=1):
        print(found.image, *found.top[0])
    ```

    Args:
        source: a run or its folder, a model name, an exported file, or the result of :func:`load_model` or
            :func:`hexavit.load_predictor`.
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
        optimize: use :func:`hexavit.optimize`; by default on CPUs from the 2,000th image on, without another engine.
        engine: as in :func:`hexavit.load_predictor`; ``auto`` uses what is in its cache at once, and exports a model at
            the 2,000th image.
        shard: (I, N) with I from 1 to N: every Nth image, from the Ith on. The N shards of a list are disjoint, and all
            images are in one of them, in the order of the list.
        notify: called with sentences about the engine.

    Yields:
        One prediction per readable image, in the order given.

    Raises:
        DataError: a path of a list does not exist, or an image cannot be read.
        RunError: the run cannot be read.
    """
    for name, value, least in (("top", top, 1), ("the batch size", batch_size, 1), ("threads", threads or 0, 0)):
        if value < least:
            raise HexavitError(f"{name} is at least {least}, not {value}")
    if shard is not None and not 1 <= shard[0] <= shard[1]:
        raise HexavitError(f"a shard is I of N with I from 1 to N, not {shard[0]} of {shard[1]}")
    named = checked(images) if isinstance(images, Sequence) and on_error is raise_error else images
    predictor = as_predictor(
        source,
        engine=engine,
        device=device,
        wanted="both" if features else "classes",
        optimize=optimize,
        notify=notify,
        weights=weights,
    )
    own = not isinstance(source, Predictor)

    def prepare(done: int, images: int = FROM_IMAGES) -> None:
        # The number of images is unknown: a faster engine is made once as many are done as would pay for it.
        if own and done - batch_size < images <= done:
            predictor.prepare(images, batch_size=batch_size, optimize=optimize, notify=notify)

    prepare(0, images=0)
    found = iter_images(named, on_error)
    return predictor.stream(
        found if shard is None else islice(found, shard[0] - 1, None, shard[1]),
        top=top,
        batch_size=batch_size,
        threads=threads,
        features=features,
        on_error=on_error,
        after_batch=prepare,
    )
