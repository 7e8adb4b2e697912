"""Exported files in their engines: `.onnx` in ONNX Runtime, `.xml` in OpenVINO, `.pt2` in PyTorch."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hexavit.errors import DataError, HexavitError
from hexavit.export.description import ExportDescription, read_description
from hexavit.export.packages import compile_openvino, open_onnx, openvino_core
from hexavit.inference.engines import TITLES, EngineChoice, EngineName, check_engine, import_engine, title
from hexavit.inference.exported_program import is_compiled, open_program
from hexavit.inference.model_info import ModelInfo
from hexavit.inference.outputs import Outputs
from hexavit.models.imagenet import class_numbers

ENGINE_OF: dict[str, EngineName] = {".onnx": "onnxruntime", ".xml": "openvino", ".pt2": "torch"}
"""The engine that runs a file of an ending."""

_OTHERWISE = {
    "logits": "export the model with --features, or use its run",
    "features": "export the model without --features, or use its run",
}
OFTEN = 8
"""So many batches of one size in turn get a graph of their own in OpenVINO."""
Compute = Callable[[NDArray[Any]], NDArray[Any]]
"""From a batch of images to a batch of logits or features."""


def is_exported(source: object) -> bool:
    """Whether a path has the ending of an exported file."""
    return isinstance(source, str | Path) and Path(source).suffix.lower() in ENGINE_OF


@dataclass(frozen=True)
class OpenFile:
    """Opens an exported file in its engine.

    Attributes:
        path: the file.
        engine: its engine.
        about: what the file says of itself.
        allow_compiled: whether a `.pt2` may hold machine code.
    """

    path: Path
    engine: EngineName
    about: ExportDescription
    allow_compiled: bool = False

    device = torch.device("cpu")

    @classmethod
    def of(cls, path: str | Path, engine: EngineChoice = "auto", *, allow_compiled: bool = False) -> OpenFile:
        """Read what a file says of itself.

        Raises:
            HexavitError: there is no such file, it is damaged, or its engine is another one or not installed.
        """
        path = Path(path).absolute()
        own = ENGINE_OF[path.suffix.lower()]
        if engine not in {"auto", own}:
            raise HexavitError(f"{path}: files of this kind run in {own}, not in {engine}; export the model for it")
        check_engine(own)
        about = read_description(path)
        return cls(path, own, about, allow_compiled)

    def __call__(self) -> FileEngine:
        return FileEngine(self.path, self.engine, self.about, allow_compiled=self.allow_compiled)

    def checksum(self) -> str:
        """Of the file; weights beside a `.xml` are in another file of its name."""
        checksum = hashlib.blake2b()
        for path in (self.path, self.path.with_suffix(".bin")):
            if path.is_file():
                with path.open("rb") as file:
                    checksum.update(hashlib.file_digest(file, "blake2b").digest())
        return checksum.hexdigest()

    @property
    def preprocesses(self) -> bool:
        """Whether resize, crop and normalisation are in the file."""
        return self.about.preprocessing == "graph"

    def info(self) -> ModelInfo:
        """The classes and the preprocessing."""
        about = self.about
        classes = about.classes or ()
        source, numbers = str(self.path), class_numbers(classes)
        return ModelInfo(classes, about.input_spec, source, numbers, None, (), source, about.thresholds, about.model)


@dataclass(frozen=True)
class OpenedFile:
    """A file in its engine.

    Attributes:
        compute: from a batch of inputs to its outputs.
        shape: of the input; None where any size is accepted.
    """

    compute: Compute
    shape: tuple[int | None, ...]


class FileEngine:
    """An exported file in its engine, on the CPU.

    Args:
        path: the file.
        engine: its engine.
        about: what the file says of itself.
        allow_compiled: whether a `.pt2` may hold machine code, which runs unchecked.

    Raises:
        HexavitError: the engine is not installed, or cannot read the file.
    """

    device = torch.device("cpu")

    def __init__(
        self, path: Path, engine: EngineName, about: ExportDescription, *, allow_compiled: bool = False
    ) -> None:
        self.path, self.about, self.spec = path, about, about.input_spec
        compiled = allow_compiled and engine == "torch" and is_compiled(path)
        opened = _open_compiled(path, about) if compiled else _OPENERS[engine](path, about)
        self._compute, self.shape = opened.compute, opened.shape
        self.title = title(engine)

    def __call__(self, pixels: Tensor, *, logits: bool, features: bool) -> Outputs:
        wanted = "features" if features else "logits"
        if wanted != self.about.output or (logits and features):
            own = self.about.output
            raise HexavitError(f"{self.path}: this file computes {own} alone, not {wanted}; {_OTHERWISE[own]}")
        normal = pixels if self.about.preprocessing == "graph" else self.spec.normalise(pixels)
        values = normal.numpy()
        self._check(values)
        computed = torch.from_numpy(np.ascontiguousarray(self.run(values), dtype=np.float32))
        named = self.about.classes
        if named is not None and computed.shape[1:] != (len(named),):
            shape = tuple(computed.shape[1:])
            raise HexavitError(
                f"{self.path}: this file names {len(named)} classes, and computes logits of shape {shape}"
            )
        return Outputs(**{wanted: computed})

    def _check(self, values: NDArray[Any]) -> None:
        """Check the size of the images.

        Raises:
            DataError: the file does not take it.
        """
        if self.about.preprocessing == "graph":
            return
        height, width = values.shape[2:]
        if (height, width) == tuple(self.about.image_size):
            return
        right = " x ".join(map(str, self.about.image_size))
        if "size" not in self.about.dynamic:
            raise DataError(f"{self.path}: this file takes images of {right} pixels, not {height} x {width}")
        step = self.about.size_multiple or 1
        if height % step or width % step:
            raise DataError(f"{self.path}: this file takes sides that are multiples of {step}, not {height} x {width}")

    def run(self, values: NDArray[Any]) -> NDArray[Any]:
        """Compute the file's input in batches of its size; the last one is filled up with copies of its last image."""
        size = self.shape[0]
        if size is None or size == len(values):
            return self._run(values)
        parts = []
        for first in range(0, len(values), size):
            part = values[first : first + size]
            missing = size - len(part)
            filled = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
            parts.append(self._run(filled)[: len(part)])
        return np.concatenate(parts)

    def _run(self, values: NDArray[Any]) -> NDArray[Any]:
        try:
            return self._compute(values)
        except Exception as error:  # each engine has exceptions of its own
            shape = " x ".join(map(str, values.shape))
            raise DataError(
                f"{self.path}: {self.title} cannot compute a batch of {shape} ({_reason(error)})"
            ) from error


def _open_onnxruntime(path: Path, about: ExportDescription) -> OpenedFile:
    import_engine("onnxruntime")
    session = _opened(path, "onnxruntime", lambda: open_onnx(path, spin=False))  # the cores also decode images
    shape = tuple(each if isinstance(each, int) else None for each in session.get_inputs()[0].shape)
    return OpenedFile(lambda values: session.run([about.output], {about.input: values})[0], shape)


class _OpenVino:
    """A file in OpenVINO. A size of batches that comes often gets a graph of its own, in which all sizes are known.

    Args:
        path: an `.xml`.
        about: what it says of itself.
    """

    def __init__(self, path: Path, about: ExportDescription) -> None:
        self._about, self._local, self._lock = about, threading.local(), threading.Lock()
        self._model = openvino_core().read_model(str(path))
        self._any = self._own = compile_openvino(self._model)
        self._own_shape: tuple[int, ...] | None = None
        self._last: tuple[int, ...] = ()
        self._times = 0
        sizes = self._any.input(about.input).partial_shape
        self.shape = tuple(None if each.is_dynamic else each.get_length() for each in sizes)

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        compiled = self._for(values.shape)
        if getattr(self._local, "compiled", None) is not compiled:  # a request belongs to one thread
            self._local.compiled, self._local.request = compiled, compiled.create_infer_request()
        result: NDArray[Any] = self._local.request.infer({self._about.input: values})[self._about.output]
        return result

    def _for(self, shape: tuple[int, ...]) -> Any:
        """The graph for a shape of the input."""
        if self._about.dynamic != ("batch",) or self._about.preprocessing == "graph":
            return self._any
        with self._lock:
            if shape != self._own_shape:
                self._times = self._times + 1 if shape == self._last else 1
                self._last = shape
                if self._times < OFTEN:
                    return self._any
                model = self._model.clone()
                model.reshape(list(shape))
                self._own, self._own_shape = compile_openvino(model), shape
            return self._own


def _open_openvino(path: Path, about: ExportDescription) -> OpenedFile:
    import_engine("openvino")
    model = _opened(path, "openvino", lambda: _OpenVino(path, about))
    return OpenedFile(model, model.shape)


def _open_exported_program(path: Path, about: ExportDescription) -> OpenedFile:
    program = open_program(path)
    return OpenedFile(_of_tensors(program.module), program.shape)


def _open_compiled(path: Path, about: ExportDescription) -> OpenedFile:
    """Machine code of AOTInductor; its size of a batch is 1 unless any is accepted."""
    program = _opened(path, "torch", lambda: torch._inductor.aoti_load_package(str(path)))
    return OpenedFile(_of_tensors(program), (None if "batch" in about.dynamic else 1,))


def _of_tensors(program: Callable[[Tensor], Tensor]) -> Compute:
    @torch.inference_mode()
    def compute(values: NDArray[Any]) -> NDArray[Any]:
        result: NDArray[Any] = program(torch.from_numpy(values)).float().numpy()
        return result

    return compute


_OPENERS: dict[EngineName, Callable[[Path, ExportDescription], OpenedFile]] = {
    "onnxruntime": _open_onnxruntime,
    "openvino": _open_openvino,
    "torch": _open_exported_program,
}


def _opened(path: Path, engine: EngineName, call: Callable[[], Any]) -> Any:
    """The result of a call that opens a file.

    Raises:
        HexavitError: with the engine's reason.
    """
    try:
        return call()
    except Exception as error:  # each engine has exceptions of its own
        raise HexavitError(f"{path}: {TITLES[engine]} cannot open this file ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """The message of an engine in one line, without an end that lists its source files."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 300 else f"{words[:300]} ..."
