"""Preprocessing as data: how an image becomes a model's input. A run saves it, so that prediction repeats training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from hexavit.errors import DataError
from hexavit.images.decode import WHITE, to_channels, to_multichannel
from hexavit.images.multichannel import Picture

_FROM_CFG = ("mean", "std", "interpolation", "crop_pct", "crop_mode")
_PICTURE_CHANNELS = (1, 3)  # those of Pillow's images, which timm's transforms take

Transform = Callable[[Picture], Tensor]


def stacked(pixels: Sequence[Tensor]) -> Tensor | list[Tensor]:
    """A batch of images, or the list of them if they differ in size."""
    return torch.stack(list(pixels)) if len({each.shape for each in pixels}) == 1 else list(pixels)


@dataclass(frozen=True)
class InputSpec:
    """Size, channels and normalisation of a model's input.

    Attributes:
        size: height and width in pixels.
        channels: 1 (grey), 3 (RGB), or as many as the images have.
        mean: of each channel, subtracted; pixels are fractions of 1.
        std: of each channel, divided by.
        interpolation: of the resize: ``"bilinear"`` or ``"bicubic"``.
        crop_pct: fraction of the resized image's side that the centre crop keeps.
        crop_mode: ``"center"`` keeps the aspect ratio in the resize, ``"squash"`` does not.
        white: the value that is white in grey or RGB images of 16 bits: 4095 for data of 12 bits.
    """

    size: tuple[int, int]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    crop_mode: str
    white: int = WHITE

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise DataError(f"an image has at least 1 channel, not {self.channels}")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise DataError(f"{self.channels} channels need as many means and deviations, not {self.mean}, {self.std}")

    @classmethod
    def of_model(cls, model: nn.Module) -> InputSpec:
        """The input that the model's ``pretrained_cfg`` describes."""
        cfg = cast("Mapping[str, Any]", model.pretrained_cfg)
        channels, height, width = cfg["input_size"]
        return cls((height, width), channels, **{key: cfg[key] for key in _FROM_CFG})

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> InputSpec:
        """The inverse of :meth:`as_dict`, also after a round trip through JSON."""
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}
        return cls(**cast("Any", values))

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values for JSON; ``white`` only if it is not that of 16 bits."""
        values = asdict(self)
        if self.white == WHITE:
            del values["white"]
        return values

    @property
    def of_pictures(self) -> bool:
        """Whether the input is grey or RGB, which any picture can become. Other inputs need exactly these channels."""
        return self.channels in _PICTURE_CHANNELS

    def transform(self, varied: Callable[[Any], Any] | None = None) -> Transform:
        """The function from an image of any mode and size to a float tensor (channels, height, width).

        Args:
            varied: applied between the crop and the conversion to a normalised tensor: to a Pillow image if
                :attr:`of_pictures`, else to a tensor of fractions.
        """
        if not self.of_pictures:
            return MultichannelTransform(self, varied=varied)
        plain = self.timm_transform(is_training=False, crop_pct=self.crop_pct, crop_mode=self.crop_mode)
        if varied is not None:
            plain.after.transforms.insert(-2, varied)  # the last two convert to a tensor and normalise
        return plain

    def pixels(self) -> Transform:
        """:meth:`transform` without its last step, :meth:`normalise`, which is faster on a batch on the device.

        Returns:
            The function to a tensor (channels, height, width) of bytes, or of fractions unless :attr:`of_pictures`.
        """
        if not self.of_pictures:
            return MultichannelTransform(self, normalised=False)
        bytes_out = {"use_prefetcher": True}  # timm's option to leave the normalisation to the batch
        return self.timm_transform(is_training=False, crop_pct=self.crop_pct, crop_mode=self.crop_mode, **bytes_out)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Normalise the result of :meth:`pixels`, (channels, height, width) or a batch."""
        values = pixels.float()
        if pixels.dtype == torch.uint8:
            values = values.div_(255)
        mean, std = (torch.tensor(each, device=values.device).view(-1, 1, 1) for each in (self.mean, self.std))
        return values.sub_(mean).div_(std) if values is not pixels else (values - mean).div_(std)

    def timm_transform(self, **options: Any) -> PictureTransform:
        """timm's transform with these ``options``, after the conversion to the model's channels."""
        from timm.data import create_transform

        after = create_transform(
            input_size=(self.channels, *self.size),
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
            **options,
        )
        return PictureTransform(self.channels, self.white, after)


@dataclass(frozen=True)
class PictureTransform:
    """timm's transform for grey and RGB images.

    Attributes:
        channels: 1 or 3.
        white: the value that is white in images of 16 bits.
        after: torchvision's ``Compose``, applied to the image of these channels.
    """

    channels: int
    white: int
    after: Any

    def __call__(self, image: Picture) -> Tensor:
        made = self.after(to_channels(image, self.channels, self.white))
        return made if isinstance(made, Tensor) else torch.from_numpy(made)


@dataclass(frozen=True)
class MultichannelTransform:
    """timm's resize and crop for images of any number of channels, by torchvision.

    Attributes:
        spec: of the input.
        cut: from a tensor (C, h, w) of fractions to one of the spec's size; by default as for evaluation.
        varied: applied after it.
        normalised: whether mean and deviation are applied after that.
        last: applied at the end.
    """

    spec: InputSpec
    cut: Callable[[Tensor], Tensor] | None = None
    varied: Callable[[Tensor], Tensor] | None = None
    normalised: bool = True
    last: Callable[[Tensor], Tensor] | None = None

    def __call__(self, image: Picture) -> Tensor:
        values = torch.from_numpy(to_multichannel(image, self.spec.channels).fractions())
        values = self._resize_and_crop(values) if self.cut is None else self.cut(values)
        values = values if self.varied is None else self.varied(values)
        values = self.spec.normalise(values) if self.normalised else values
        return values if self.last is None else self.last(values)

    def _resize_and_crop(self, values: Tensor) -> Tensor:
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2 import functional as tv

        spec = self.spec
        height, width = (math.floor(side / spec.crop_pct) for side in spec.size)
        if spec.crop_mode != "squash":  # the shorter side fits, the aspect ratio stays
            scale = max(height / values.shape[1], width / values.shape[2])
            height = max(height, round(values.shape[1] * scale))
            width = max(width, round(values.shape[2] * scale))
        made = tv.resize(values, [height, width], InterpolationMode(spec.interpolation), antialias=True)
        return cast("Tensor", tv.center_crop(made, list(spec.size)))
