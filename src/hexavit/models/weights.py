"""Published weights as data: location, licence, training data and preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hexavit.errors import HexavitError

IMAGENET_MEAN_STD = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
INCEPTION_MEAN_STD = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of an image for evaluation.

    Attributes:
        mean: mean of each channel, subtracted from pixels in [0, 1].
        std: standard deviation of each channel, divided by.
        interpolation: `bicubic` or `bilinear`.
        crop_pct: the shorter side is resized to `img_size / crop_pct`.
        crop_mode: `center` for a centre crop after the resize; `squash` for a resize to (H, W) that ignores the aspect
            ratio.
    """

    mean: tuple[float, ...] = IMAGENET_MEAN_STD[0]
    std: tuple[float, ...] = IMAGENET_MEAN_STD[1]
    interpolation: str = "bicubic"
    crop_pct: float = 0.875
    crop_mode: str = "center"


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One published set of weights of a model; `create_model("model.tag", pretrained=True)` loads it.

    Attributes:
        tag: name after the model's name: the training data, and the image size if it differs from the model's.
        hub_id: repository on the Hugging Face hub; None for a file with a `link`.
        link: URL of a file outside the hub; None for a file on the hub.
        files: file names on the hub; the first that exists is used.
        sha256: checksum of each file, by its name. A file without one is verified with the checksum of the hub.
        revision: branch or commit of the repository.
        img_size: image size at the end of training.
        num_classes: number of outputs of the head; 0 without a head.
        trained_on: training data sets, in order of use.
        license: licence of the weights, as stated by the repository.
        code_license: licence of the authors' code.
        top1: published top-1 accuracy on ImageNet-1k's validation set, as a fraction; None if none was published.
        source: publication of `top1`.
        preprocessing: preprocessing for evaluation.
        note: remark for users of these weights.
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
            raise HexavitError(f"weights {self.tag!r} need either hub_id or link, and not both")

    @property
    def place(self) -> str:
        """The hub repository, or the link."""
        return self.hub_id or str(self.link)

    @property
    def urls(self) -> tuple[str, ...]:
        """URL of the file, or one URL for each name in `files`."""
        if self.link is not None:
            return (self.link,)
        front = f"https://huggingface.co/{self.hub_id}/resolve/{self.revision or 'main'}"
        return tuple(f"{front}/{file}" for file in self.files)


def in1k_weight(place: str, top1: float | None, source: str, license: str, **options: Any) -> Weight:
    """Weights trained on ImageNet-1k alone, with the licence of the authors' code.

    Args:
        place: hub repository, or link that begins with https.
        top1: published accuracy.
        source: publication of `top1`.
        license: licence of the weights and of the code.
        **options: other fields of `Weight`, or replacements of the defaults.
    """
    where = {"link" if place.startswith("https:") else "hub_id": place}
    defaults = {"tag": "in1k", "img_size": 224, "trained_on": ("ImageNet-1k",), "code_license": license}
    return Weight(top1=top1, source=source, license=license, **{**where, **defaults, **options})
