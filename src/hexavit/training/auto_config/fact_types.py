"""The facts on which automatic settings depend, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hexavit.parts.contract import Size

SMALL = 64
"""Images with sides up to this many pixels get a model built for small images."""


@dataclass(frozen=True)
class DataFacts:
    """Facts about the data.

    Attributes:
        images: number of training images.
        classes: number of classes.
        channels: channels of the images.
        side: median over a sample of images of the shorter side, in pixels.
        size: image size that the data set suggests, if it does.
        mirrored: whether its images may be flipped and cropped.
        imbalance: number of training images of the most frequent class, as a multiple of that of the rarest.
        multilabel: whether images have several classes or none.
    """

    images: int
    classes: int
    channels: int
    side: int
    size: Size | None = None
    mirrored: bool = True
    imbalance: float = 1.0
    multilabel: bool = False


@dataclass(frozen=True)
class Machine:
    """Facts about the machine.

    Attributes:
        device: type of the device.
        cores: number of CPU cores.
        memory: memory of the machine in bytes.
        device_memory: free memory of the GPU in bytes; None without one.
        bfloat16: whether the GPU computes in bfloat16.
    """

    device: Literal["cpu", "mps", "cuda"]
    cores: int
    memory: int
    device_memory: int | None = None
    bfloat16: bool = False


@dataclass(frozen=True)
class StartingWeights:
    """Facts about the initial weights.

    Attributes:
        model: name of their model.
        overrides: its overrides.
        size: image size of their training.
        channels: channels of its input.
        classes: number of its classes.
    """

    model: str
    overrides: tuple[str, ...] = ()
    size: Size | None = None
    channels: int | None = None
    classes: int | None = None


@dataclass(frozen=True)
class Candidate:
    """A named model that may be chosen. For a small model (:data:`SMALL`) only name and side are used.

    Attributes:
        name: a name from `hexavit list`.
        side: the image size of the model in pixels.
        params_m: millions of parameters.
        macs: multiply-adds for an image of that size.
        top1: published ImageNet-1k accuracy, from 0 to 1.
    """

    name: str
    side: int
    params_m: float = 0.0
    macs: float = 0.0
    top1: float = 0.0


@dataclass(frozen=True)
class Facts:
    """All facts on which the settings depend.

    Attributes:
        data: the data.
        machine: the machine.
        models: the models that may be chosen.
        start: the initial weights, if any.
    """

    data: DataFacts
    machine: Machine
    models: tuple[Candidate, ...]
    start: StartingWeights | None = None

    @property
    def accelerated(self) -> bool:
        """Whether the run uses an accelerator."""
        return self.machine.device != "cpu"
