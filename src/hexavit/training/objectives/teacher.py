"""A teacher: a trained model whose answers another learns from, asked on the very images that the other sees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import functional as F

from hexavit.errors import HexavitError
from hexavit.images.preprocess import InputSpec
from hexavit.inference.load_model import LoadedModel, load_model

_GREY = (0.299, 0.587, 0.114)  # of red, green and blue, as Pillow weighs them


class Teacher:
    """Logits of a trained model for images that were made teacher for another one.

    It is no module, so that it is neither trained nor written to checkpoints.

    Args:
        teacher: the model, its classes and its input.
        classes: of the data: the columns that are wanted, found by their names; where the teacher's have none, and are
            as many, in their order.
        spec: for which the images were made teacher.
        name: by which a refusal calls it.

    Raises:
        HexavitError: it does not know one of the classes.
    """

    def __init__(self, teacher: LoadedModel, classes: Sequence[str], spec: InputSpec, name: str) -> None:
        self.model: Any = teacher.model.eval().requires_grad_(False)
        self.spec, self.own = spec, teacher.input_spec
        self.columns = torch.tensor(_columns(teacher, classes, name))

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to logits (B, K), on the device of the images."""
        self.model.to(images.device)
        self.columns = self.columns.to(images.device)
        logits: Tensor = self.model(self._prepared(images.float()))
        return logits[:, self.columns].float()

    def _prepared(self, images: Tensor) -> Tensor:
        pixels = images * _column(self.spec.std, images) + _column(self.spec.mean, images)
        if self.own.channels < self.spec.channels:
            pixels = (pixels * _column(_GREY, images)).sum(1, keepdim=True)
        elif self.own.channels > self.spec.channels:
            pixels = pixels.expand(-1, self.own.channels, -1, -1)
        if self.own.size != self.spec.size:
            mode = F.InterpolationMode(self.own.interpolation)
            pixels = F.resize(pixels, list(self.own.size), mode, antialias=True)
        return (pixels - _column(self.own.mean, images)) / _column(self.own.std, images)


def open_teacher(source: str, classes: Sequence[str], spec: InputSpec) -> Teacher:
    """The teacher that a user names: a run, a saved folder, a model with published weights, or a file of weights.

    Raises:
        HexavitError: one of its kinds, when there is no such thing, or it does not know the classes.
    """
    model = None
    if Path(source).is_file():
        from hexavit.checkpoints import inspect_checkpoint

        model = inspect_checkpoint(source).model
        if model is None:
            raise HexavitError(f"{source}: nobody can know of which model these weights are; name a run or a folder")
    return Teacher(load_model(source, model=model), classes, spec, source)


def _columns(teacher: LoadedModel, classes: Sequence[str], name: str) -> list[int]:
    nameless = all(given == f"class {number}" for number, given in enumerate(teacher.classes))
    if nameless and len(teacher.classes) == len(classes):
        return list(range(len(classes)))
    places = {**teacher.synonyms, **{given: number for number, given in enumerate(teacher.classes)}}
    for each in classes:
        if each not in places:
            raise HexavitError(f"{name}: this teacher knows no class {each!r}, which the data has")
    return [places[each] for each in classes]


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device)[:, None, None]
