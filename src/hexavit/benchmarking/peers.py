"""The same models in other libraries: timm, transformers and vit-pytorch."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

import hexavit
from hexavit.errors import HexavitError
from hexavit.models import LAYOUTS, list_models, model_entry, resolve

OURS = "hexavit"


class LogitsOnly(nn.Module):
    """A model of transformers whose output is the logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images).logits
        return logits


def from_hexavit(name: str, size: tuple[int, int]) -> nn.Module:
    """hexavit's model of a name, a run folder or a saved folder, at an image size."""
    model: nn.Module = hexavit.create_model(name, img_size=size, drop_path_rate=0.0)
    return model


def from_timm(name: str, size: tuple[int, int]) -> nn.Module:
    """timm's model of the same name, at an image size."""
    import timm

    try:
        model: nn.Module = timm.create_model(name, img_size=size)
    except TypeError:  # convolutional pyramids take any size and have no such argument
        model = timm.create_model(name)
    return model


def from_transformers(name: str, size: tuple[int, int]) -> nn.Module:
    """transformers' model, from the configuration that hexavit writes when it converts weights."""
    transformers: Any = import_module("transformers")  # a package of the user's own
    layout = next(each for each in LAYOUTS if each.config and each.family == model_entry(name).family)
    assert layout.config is not None
    config = layout.config(resolve(name, img_size=size))
    (kind,) = config.pop("architectures")
    made: Any = getattr(transformers, kind)(transformers.AutoConfig.for_model(config.pop("model_type"), **config))
    return LogitsOnly(made)


def from_vit_pytorch(name: str, size: tuple[int, int]) -> nn.Module:
    """vit-pytorch's CvT, with its own defaults; it has no image size."""
    package: Any = import_module("vit_pytorch.cvt")  # it has no types
    made: nn.Module = package.CvT(num_classes=1000, s3_heads=6)
    return made


def _in_timm(name: str) -> bool:
    import timm

    # hexavit may have registered its own models with timm in this process.
    return timm.is_model(name) and timm.model_entrypoint(name).__module__.startswith("timm.")


def _in_transformers(name: str) -> bool:
    return any(layout.config and layout.family == model_entry(name).family for layout in LAYOUTS)


def _in_vit_pytorch(name: str) -> bool:
    return name == "cvt_13_vit_pytorch"


LIBRARIES: dict[str, tuple[Callable[[str], bool], Callable[[str, tuple[int, int]], nn.Module]]] = {
    "timm": (_in_timm, from_timm),
    "transformers": (_in_transformers, from_transformers),
    "vit-pytorch": (_in_vit_pytorch, from_vit_pytorch),
}
"""Other libraries: whether one has the model of a name, and its construction with random weights."""


def peers_of(name: str, libraries: tuple[str, ...]) -> tuple[str, ...]:
    """Which of these libraries have the model of a name.

    Raises:
        HexavitError: one of the libraries is not installed.
    """
    for library in libraries:
        if find_spec(library.replace("-", "_")) is None:
            raise HexavitError(f"a comparison with {library} needs that library: pip install {library}")
    if name not in list_models():  # a user's own
        return ()
    return tuple(library for library in libraries if LIBRARIES[library][0](name))


@torch.no_grad()
def build(library: str, name: str, size: tuple[int, int]) -> nn.Module:
    """The model of a library with random weights.

    Biases that start at 0 and scales that start at 1 are drawn too: engines leave those out.
    """
    model = from_hexavit(name, size) if library == OURS else LIBRARIES[library][1](name, size)
    for weight in model.parameters():
        if not weight.is_meta and weight.is_floating_point() and weight.min() == weight.max():
            weight.add_(torch.randn_like(weight), alpha=0.02)
    return model
