"""`hexavit.load_predictor`: a trained model or an exported file as one object, in PyTorch or in another engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hexavit.errors import HexavitError
from hexavit.images.listing import OnError, raise_error
from hexavit.images.prefetch import cores, work_ahead
from hexavit.images.preprocess import Transform, stacked
from hexavit.inference.acceleration import FROM_IMAGES, optimized
from hexavit.inference.device import Device, pick_device
from hexavit.inference.engines import (
    AUTO,
    Engine,
    EngineChoice,
    EngineName,
    TorchEngine,
    check_engine,
    installed,
    title,
)
from hexavit.inference.exported_file import OpenFile, is_exported
from hexavit.inference.inputs import Input, as_batch, bytes_of, is_one, prepare, readable
from hexavit.inference.load_model import ModelSource, as_loaded, load_model
from hexavit.inference.model_info import ModelInfo
from hexavit.inference.model_opener import OpenModel, Wanted
from hexavit.inference.outputs import Outputs, Prediction, predictions
from hexavit.run_paths import Weights

Notify = Callable[[str], None]
"""Called with each sentence about the engine that the user should read."""


class Predictor:
    """A model with its classes and preprocessing, in an engine: what `load_predictor` returns.

    Several threads may call it. Pickled, it holds paths instead of weights where it was loaded from a path, and opens
    its engine in the new process when it is first used.

    Attributes:
        info: the classes and the preprocessing.
        device: where PyTorch computes; the CPU for other engines.
        notes: sentences about the engine, such as why another one is not used.
    """

    def __init__(self, info: ModelInfo, opener: OpenFile | OpenModel) -> None:
        self.info, self.device = info, opener.device
        self.notes: list[str] = []
        self._opener: OpenFile | OpenModel = opener
        self._engine: Engine | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in {"_engine", "_lock"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _engine=None, _lock=threading.Lock())

    def __repr__(self) -> str:
        return f"Predictor({self.info.source!r}, {len(self.info.classes)} classes, engine={self.engine!r})"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of the logits."""
        return self.info.classes

    @property
    def engine(self) -> str:
        """The engine: ``torch``, ``onnxruntime`` or ``openvino``."""
        return self._opener.engine

    def checksum(self) -> str:
        """A checksum of the weights, or of the exported file."""
        return self._opener.checksum()

    def __call__(
        self, images: Input | Iterable[Input], *, top: int = 3, features: bool = False
    ) -> Prediction | list[Prediction]:
        """Predict the classes of one image, or of several.

        Args:
            images: a path, a Pillow image, or an array (H, W) or (H, W, C) of any size; or a batch of these: an
                iterable, or an array (N, H, W, C).
            top: number of classes per image, at most all; `Prediction.logits` has all.
            features: compute the input of the classifier, too.

        Returns:
            A `Prediction`, or a list of them for a batch.

        Raises:
            DataError: an image cannot be read.
        """
        one = is_one(images)
        found = list(self.stream(as_batch(images), top=top, features=features, threads=0 if one else None))
        return found[0] if one else found

    def logits(self, images: Input | Iterable[Input]) -> NDArray[np.float32]:
        """Logits (N, K) of images, as :meth:`__call__` takes them."""
        rows = [each.logits for each in self.stream(as_batch(images), top=1) if each.logits is not None]
        return np.stack(rows) if rows else np.zeros((0, len(self.classes)), np.float32)

    def features(self, images: Input | Iterable[Input]) -> NDArray[np.float32]:
        """The input of the classifier, (N, D), of images, as :meth:`__call__` takes them."""
        rows = [
            each.features
            for each in self.stream(as_batch(images), features=True, logits=False)
            if each.features is not None
        ]
        return np.stack(rows) if rows else np.zeros((0, 0), np.float32)

    def stream(
        self,
        images: Iterable[Input],
        *,
        top: int = 3,
        batch_size: int = 64,
        threads: int | None = None,
        features: bool = False,
        logits: bool = True,
        on_error: OnError = raise_error,
        after_batch: Callable[[int], None] = lambda _: None,
    ) -> Iterator[Prediction]:
        """Predict images one after the other, in batches, with memory that does not grow with their number.

        Args:
            images: as :meth:`__call__` takes them, consumed as needed.
            top: number of classes per image, at most all.
            batch_size: images per batch.
            threads: threads that decode; by default one per core. 0 decodes between the batches.
            features: compute the input of the classifier, too.
            logits: compute the classes.
            on_error: called with a `DataError` for each image that cannot be read.
            after_batch: called with the number of images that are done.

        Yields:
            One prediction per readable image, in the order given.
        """
        logits = logits and bool(self.classes)
        if not logits and not features:
            raise HexavitError("this model has no classifier, so it predicts no classes; request its features instead")
        to_input = partial(prepare, transform=self.transform())
        ahead = work_ahead(enumerate(images), to_input, cores() if threads is None else threads, 2 * batch_size)
        compute = partial(self.compute, logits=logits, features=features)
        return self._in_batches(readable(ahead, on_error), batch_size, compute, top, after_batch)

    def _in_batches(
        self,
        images: Iterator[tuple[Path, Tensor]],
        batch_size: int,
        compute: Callable[[Tensor | list[Tensor]], Outputs],
        top: int,
        after_batch: Callable[[int], None],
    ) -> Iterator[Prediction]:
        done = 0
        while chunk := list(islice(images, batch_size)):
            outputs = compute(stacked([pixels for _, pixels in chunk]))
            yield from predictions(outputs, self.info, [path for path, _ in chunk], top)
            done += len(chunk)
            after_batch(done)

    def transform(self) -> Transform:
        """The function from a decoded image to what :meth:`compute` takes, stacked."""
        if self._opener.preprocesses:
            return partial(bytes_of, channels=self.info.input_spec.channels, white=self.info.input_spec.white)
        return self.info.input_spec.pixels()

    def compute(self, pixels: Tensor | list[Tensor], *, logits: bool = True, features: bool = False) -> Outputs:
        """Compute a batch.

        Args:
            pixels: results of :meth:`transform`, stacked, or in a list if they differ in size.
            logits: whether to compute logits.
            features: whether to compute the input of the classifier.

        Returns:
            Tensors on :attr:`device`, with a row for each image.

        Raises:
            HexavitError: the file does not compute what is requested, or does not take images of this size.
        """
        engine = self._open()
        if isinstance(pixels, Tensor):
            return engine(pixels, logits=logits, features=features)
        parts = [engine(each[None], logits=logits, features=features) for each in pixels]
        columns = zip(*parts, strict=True)
        return Outputs(*(None if column[0] is None else torch.cat(list(column)) for column in columns))

    def prepare(self, images: int, *, batch_size: int, optimize: bool | None, notify: Notify | None = None) -> None:
        """Change to a faster engine, or to faster modules, if it is worth it for a number of images.

        Args:
            images: how many are still to be computed.
            batch_size: images in a batch.
            optimize: use `hexavit.optimize`; None for :data:`FROM_IMAGES` and more, without another engine.
            notify: called with the sentences that are added to `notes`.
        """
        opener = self._opener
        if not isinstance(opener, OpenModel):
            return
        if not optimize:
            self._try_engines(opener, images >= FROM_IMAGES, notify)
        if self._opener is opener:
            engine = self._open()
            assert isinstance(engine, TorchEngine)  # as the opener is that of a model
            size = self.info.input_spec.size
            engine.model = optimized(engine.model, engine.device, optimize, images, size, batch_size)

    def _try_engines(self, opener: OpenModel, make: bool, notify: Notify | None) -> None:
        """Use the first installed engine, if the model is exported for it already or `make` allows that."""
        engine = next((each for each in AUTO if installed(each)), None)
        if engine is None or not opener.replaceable():
            return
        try:
            self.use_engine(engine, notify, make=make)
        except HexavitError as error:
            opener.wanted = None
            self._note(f"computing with PyTorch, as {title(engine)} cannot be used: {error}", notify)

    def use_engine(self, engine: EngineName, notify: Notify | None = None, *, make: bool = True) -> None:
        """Change from PyTorch to another engine, for which the model is exported into the cache.

        Args:
            engine: ``onnxruntime`` or ``openvino``.
            notify: called with the sentence that is added to `notes`.
            make: whether to export a model that is not in the cache; if not, PyTorch stays.

        Raises:
            HexavitError: the engine is not installed, or cannot compute the model.
        """
        file = self._opener.export(engine, make=make) if isinstance(self._opener, OpenModel) else None
        if file is None:
            return
        with self._lock:
            self._opener, self._engine = OpenFile.of(file), None
        self.device = self._opener.device
        self._note(f"computing with {title(engine)} (exported to {file.parent}); --engine torch uses PyTorch", notify)

    def _note(self, sentence: str, notify: Notify | None) -> None:
        self.notes.append(sentence)
        if notify is not None:
            notify(sentence)

    def _open(self) -> Engine:
        if (engine := self._engine) is not None:
            return engine
        with self._lock:
            if self._engine is None:
                self._engine = self._opener()
            return self._engine


def load_predictor(
    source: ModelSource,
    *,
    engine: EngineChoice = "auto",
    model: str | None = None,
    weights: Weights = "best",
    untrained: bool = False,
    features: bool = False,
    allow_compiled: bool = False,
    device: Device = "auto",
) -> Predictor:
    """Load a model or an exported file to predict with.

    ```python title="Not run: needs a run and photographs"
    predictor = hexavit.load_predictor("runs/flowers")
    print(predictor("rose.jpg").top[0])
    print([found.top[0] for found in predictor(["rose.jpg", "tulip.jpg"])])
    ```

    Args:
        source: an exported file (``.onnx``, ``.xml``, ``.pt2``), or what `hexavit.inference.load_model` takes: a run
            folder, a saved folder, a model name, a file of weights together with `model`.
        engine: ``torch``; ``onnxruntime`` or ``openvino``, which a model is exported for, once, into a cache; or
            ``auto``: on a CPU the first of ``openvino`` and ``onnxruntime`` that is installed and computes the same as
            PyTorch, else PyTorch. `Predictor.notes` says why. A file runs in the engine of its kind.
        model: name of the model that a file of weights belongs to.
        weights: of a run, those of the best or of the last epoch.
        untrained: allow a model with random weights.
        features: compute features instead of classes; a model without a classifier is allowed.
        allow_compiled: allow machine code of AOTInductor in a ``.pt2``, which runs unchecked.
        device: where PyTorch computes; other engines use the CPU.

    Raises:
        HexavitError: the source cannot be read, or the chosen engine is not installed or cannot compute the model.
    """
    wanted: Wanted = "features" if features else "classes"
    options: dict[str, Any] = {"model": model, "weights": weights, "untrained": untrained}
    predictor = as_predictor(
        source, engine=engine, device=device, wanted=wanted, allow_compiled=allow_compiled, **options
    )
    predictor.prepare(FROM_IMAGES, batch_size=1, optimize=False)
    return predictor


def as_predictor(
    source: ModelSource | Predictor,
    *,
    engine: EngineChoice = "auto",
    device: Device = "auto",
    wanted: Wanted = "classes",
    optimize: bool | None = None,
    allow_compiled: bool = False,
    notify: Notify | None = None,
    **options: Any,
) -> Predictor:
    """A predictor of anything that can be loaded.

    Args:
        source: a predictor, which is returned; an exported file; or a model in any form.
        engine: as in `load_predictor`; ``auto`` is decided by `Predictor.prepare`.
        device: where PyTorch computes.
        wanted: what is to be computed; for features, a model without a classifier is allowed.
        optimize: True for `hexavit.optimize`, and therefore for a model in PyTorch.
        allow_compiled: as in `load_predictor`.
        notify: called with sentences about the engine.
        options: of `load_model`, for a source that it loads.

    Raises:
        HexavitError: as `load_predictor`.
    """
    check_engine(engine)
    if isinstance(source, Predictor) or is_exported(source):
        if optimize:
            raise HexavitError("optimize is for a model in PyTorch, and this one is in an engine already")
        if isinstance(source, Predictor):
            return source
        file = OpenFile.of(str(source), engine, allow_compiled=allow_compiled)
        return Predictor(file.info(), file)
    if optimize and engine not in {"auto", "torch"}:
        raise HexavitError(f"optimize is for a model in PyTorch, and this one would be in {engine}")
    other = None if engine in {"auto", "torch"} else cast("EngineName", engine)
    place = pick_device("cpu" if other and device == "auto" else device)
    if other and place.type != "cpu":
        raise HexavitError(f"{engine} computes on the CPU, not on {place}")
    reload = None
    if isinstance(source, str | Path):
        path = Path(source).absolute() if Path(source).exists() else source
        options["headless"] = wanted != "classes"
        loaded, reload = load_model(source, **options), partial(load_model, path, **options)
    else:
        loaded = as_loaded(source, options.get("weights", "best"))
    opener = OpenModel(loaded, place, None if engine == "torch" or optimize else wanted, reload)
    predictor = Predictor(loaded.info, opener)
    if other is not None:
        predictor.use_engine(other, notify)
    return predictor
