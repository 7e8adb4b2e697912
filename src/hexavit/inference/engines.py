"""What computes a model's outputs: PyTorch, or an engine that runs an exported file."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, Protocol, cast, get_args

import torch
from torch import Tensor

from hexavit.errors import HexavitError
from hexavit.export.packages import require
from hexavit.images.preprocess import InputSpec
from hexavit.inference.outputs import Outputs

EngineName = Literal["torch", "onnxruntime", "openvino"]
EngineChoice = Literal["auto", "torch", "onnxruntime", "openvino"]

AUTO: tuple[EngineName, ...] = ("openvino", "onnxruntime")
"""The engines that are used on CPUs where they are installed, in this order."""

_EXTRAS = {"onnxruntime": "onnx", "openvino": "openvino"}
TITLES: dict[EngineName, str] = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


class Engine(Protocol):
    """Computes outputs of batches. Safe to be called by several threads.

    Attributes:
        title: name and version, for people.
        device: where the outputs are.
    """

    title: str
    device: torch.device

    def __call__(self, pixels: Tensor, *, logits: bool, features: bool) -> Outputs:
        """Compute a batch.

        Args:
            pixels: (B, C, H, W) of `InputSpec.pixels`; of a file with preprocessing, bytes (B, H, W, C).
            logits: whether to compute logits.
            features: whether to compute the input of the classifier.
        """


def installed(engine: EngineName) -> bool:
    """Whether the package of an engine is installed."""
    return engine == "torch" or find_spec(engine) is not None


def import_engine(engine: EngineName) -> Any:
    """The package of an engine.

    Raises:
        HexavitError: it is not installed.
    """
    return require(engine, _EXTRAS[engine])


def title(engine: EngineName) -> str:
    """Name and version of an engine, for people."""
    version = str(import_module(engine).__version__).split("-")[0]
    return f"{TITLES[engine]} {version}"


def check_engine(engine: str) -> None:
    """Check the name of an engine, or ``auto``.

    Raises:
        HexavitError: there is no such engine, or it is not installed.
    """
    if engine not in get_args(EngineChoice):
        raise HexavitError(f"the engine is one of {', '.join(get_args(EngineChoice))}, not {engine!r}")
    if engine not in {"auto", "torch"}:
        import_engine(cast(EngineName, engine))


class TorchEngine:
    """PyTorch with a model of hexavit, timm or torchvision.

    Args:
        model: on the device, in evaluation mode.
        spec: preprocessing of its images.
        device: where it computes.
    """

    def __init__(self, model: Any, spec: InputSpec, device: torch.device) -> None:
        self.model, self.spec, self.device = model, spec, device
        self.title = title("torch")

    @torch.inference_mode()
    def __call__(self, pixels: Tensor, *, logits: bool, features: bool) -> Outputs:
        batch = self.spec.normalise(pixels.to(self.device))  # (B, C, H, W)
        if not features:
            return Outputs(self.model(batch))
        tokens = self.model.forward_features(batch)
        vectors = self.model.forward_head(tokens, pre_logits=True)
        return Outputs(self.model.forward_head(tokens) if logits else None, vectors)
