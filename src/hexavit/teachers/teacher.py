"""The teacher of distillation: its logits for the images of the student."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import functional as F

from hexavit.errors import HexavitError
from hexavit.images.preprocess import InputSpec
from hexavit.inference.load_model import LoadedModel
from hexavit.teachers.cache import OutputCache, fingerprint
from hexavit.teachers.sources import load_any_model

_GREY = (0.299, 0.587, 0.114)  # weights of red, green and blue, as in Pillow


class Teacher:
    """Logits of a trained model for images that were preprocessed for another model.

    It is not an `nn.Module`, so that it is neither trained nor written to checkpoints.

    Args:
        teacher: the trained model with its classes and preprocessing.
        classes: classes of the data, matched with the teacher's by name; by index if the teacher's classes have no
            names and are as many.
        spec: preprocessing of the images.
        name: name of the teacher in error messages.
        cache: folder in which logits are stored, to be read when the same image is seen in the same view again; the
            logits are those that are computed without it.

    Raises:
        HexavitError: the teacher lacks a class of the data, or takes other channels.
    """

    def __init__(
        self,
        teacher: LoadedModel,
        classes: Sequence[str],
        spec: InputSpec,
        name: str,
        cache: str | Path | None = None,
    ) -> None:
        self.model: Any = teacher.model.eval().requires_grad_(False)
        self.spec, self.own = spec, teacher.input_spec
        if self.own.channels != spec.channels and (self.own.channels, spec.channels) != (1, 3) and spec.channels != 1:
            raise HexavitError(
                f"{name}: the teacher takes images of {self.own.channels} channels, and the student's have "
                f"{spec.channels}"
            )
        chosen = matching_classes(teacher, classes, name)
        self.columns = torch.tensor(chosen)
        self.cache = None
        if cache is not None:
            self.cache = OutputCache(cache, fingerprint(self.model, chosen, self.own, spec), len(classes))

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to logits (B, K), on the device of the images."""
        return self._logits(images) if self.cache is None else self.cache.get(images, self._logits)

    def _logits(self, images: Tensor) -> Tensor:
        self.model.to(images.device)
        self.columns = self.columns.to(images.device)
        logits: Tensor = self.model(self._preprocessed(images.float()))
        return logits[:, self.columns].float()

    def _preprocessed(self, images: Tensor) -> Tensor:
        pixels = images * _column(self.spec.std, images) + _column(self.spec.mean, images)
        if self.own.channels < self.spec.channels:
            pixels = (pixels * _column(_GREY, images)).sum(1, keepdim=True)
        elif self.own.channels > self.spec.channels:
            pixels = pixels.expand(-1, self.own.channels, -1, -1)
        if self.own.size != self.spec.size:
            mode = F.InterpolationMode(self.own.interpolation)
            pixels = F.resize(pixels, list(self.own.size), mode, antialias=True)
        return (pixels - _column(self.own.mean, images)) / _column(self.own.std, images)


def load_teacher(source: str, classes: Sequence[str], spec: InputSpec, cache: str | Path | None = None) -> Teacher:
    """Load a teacher.

    Args:
        source: as of :func:`hexavit.teachers.load_any_model`.
        classes: classes of the data.
        spec: preprocessing of the student's images.
        cache: folder in which logits are stored, or None.

    Raises:
        HexavitError: the source does not exist or cannot be loaded, or lacks a class.
    """
    return Teacher(load_any_model(source), classes, spec, source, cache)


def matching_classes(teacher: LoadedModel, classes: Sequence[str], name: str) -> list[int]:
    """For each class of the data its index among the teacher's logits.

    Args:
        teacher: the teacher.
        classes: classes of the data.
        name: name of the teacher in error messages.

    Raises:
        HexavitError: the teacher lacks a class.
    """
    nameless = all(given == f"class {number}" for number, given in enumerate(teacher.classes))
    if nameless and len(teacher.classes) == len(classes):
        return list(range(len(classes)))
    indices = {**teacher.synonyms, **{given: number for number, given in enumerate(teacher.classes)}}
    for each in classes:
        if each not in indices:
            raise HexavitError(f"{name}: the teacher has no class {each!r}, which the data has")
    return [indices[each] for each in classes]


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device)[:, None, None]
