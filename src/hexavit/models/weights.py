"""Published weights as objects: where they lie, whose they are, what they were trained on, how they want an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hexavit.errors import HexavitError

IMAGENET_MEAN_STD = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
INCEPTION_MEAN_STD = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Preprocessing:
    """How the authors prepare an image for evaluation: the resized side is `img_size / crop_pct`, then a centre crop
    (`center`), or a straight resize to (H, W) without regard to its shape (`squash`)."""

    mean: tuple[float, ...] = IMAGENET_MEAN_STD[0]
    std: tuple[float, ...] = IMAGENET_MEAN_STD[1]
    interpolation: str = "bicubic"
    crop_pct: float = 0.875
    crop_mode: str = "center"


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One published set of weights of a model; `create_model("model.tag", pretrained=True)` loads it.

    Attributes:
        tag: its name behind the model's: what it was trained on, and the image size where that is not the model's.
        hub_id: the repository on the Hugging Face hub; None for a file that lies elsewhere.
        link: the address of that file; None for one on the hub.
        files: its file on the hub, under the first of these names that there is.
        sha256: of a file by its name. A file without one is held against the sum that the hub itself keeps.
        revision: a branch or commit of that repository.
        img_size: side of the images that it was trained at last.
        num_classes: width of its head; 0 without one.
        trained_on: the data, in order.
        license: of the weights, as the repository says.
        code_license: of the authors' code.
        top1: on ImageNet-1k's validation set as published, a fraction of 1; None where nobody said it of this file.
        source: where that figure stands.
        preprocessing: how it wants an image.
        note: what whoever loads it should know.
    """

    tag: str
    hub_id: str | None = None
    link: str | None = None
    files: tuple[str, ...] = ("model.safetensors", "pytorch_model.bin")
    sha256: Mapping[str, str] = field(default_factory=dict)
    revision: str | None = None
    img_size: int
    num_classes: int = 1000
    trained_on: tuple[str, ...]
    license: str
    code_license: str
    top1: float | None = None
    source: str | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    note: str | None = None

    def __post_init__(self) -> None:
        if (self.hub_id is None) == (self.link is None):
            raise HexavitError(f"weights lie in a repository of the hub or behind a link, and {self.tag} names not one")

    @property
    def place(self) -> str:
        """Where it lies, in a word: the repository, or the link."""
        return self.hub_id or str(self.link)

    @property
    def urls(self) -> tuple[str, ...]:
        """Where a browser finds its file, or its file under one of several names."""
        if self.link is not None:
            return (self.link,)
        front = f"https://huggingface.co/{self.hub_id}/resolve/{self.revision or 'main'}"
        return tuple(f"{front}/{file}" for file in self.files)
