"""How an image becomes a model's input, as data: saved with a run, so that training and use cannot differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from hexavit.errors import DataError
from hexavit.images.decode import to_bands, to_channels
from hexavit.images.multichannel import Picture

_FROM_CARD = ("mean", "std", "interpolation", "crop_pct", "crop_mode")
_PICTURES = (1, 3)  # channels that Pillow's pictures have; timm's transforms are for those

Transform = Callable[[Picture], Tensor]


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
        crop_mode: ``"center"`` keeps the image's shape in the resize, ``"squash"`` does not.
    """

    size: tuple[int, int]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    crop_mode: str

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise DataError(f"an image has at least 1 channel, not {self.channels}")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise DataError(f"{self.channels} channels need as many means and deviations, not {self.mean}, {self.std}")

    @classmethod
    def of_model(cls, model: nn.Module) -> InputSpec:
        """What the model's ``pretrained_cfg`` and architecture ask for."""
        card = cast("Mapping[str, Any]", model.pretrained_cfg)
        channels, height, width = card["input_size"]
        return cls((height, width), channels, **{key: card[key] for key in _FROM_CARD})

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> InputSpec:
        """Read back what :meth:`as_dict` gave, through JSON as well."""
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}
        return cls(**cast("Any", values))

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values for JSON."""
        return asdict(self)

    @property
    def of_pictures(self) -> bool:
        """Whether any picture becomes its input: grey or RGB. Others need images of just these channels."""
        return self.channels in _PICTURES

    def transform(self, varied: Callable[[Any], Any] | None = None) -> Transform:
        """The map from an image of any mode and size to a float tensor of shape (channels, height, width).

        Args:
            varied: done to the image between its crop and its becoming a tensor: to Pillow's picture where
                :attr:`of_pictures`, else to a tensor of fractions.
        """
        if not self.of_pictures:
            return BandTransform(self, varied=varied)
        plain = self.timm_transform(is_training=False, crop_pct=self.crop_pct, crop_mode=self.crop_mode)
        if varied is not None:
            plain.after.transforms.insert(-2, varied)  # the last two make the tensor and normalise it
        return plain

    def pixels(self) -> Transform:
        """:meth:`transform` without its end, :meth:`normalise`, which is quicker on a batch and where the model is.

        Returns:
            The map to a tensor (channels, height, width) of bytes, or of fractions unless :attr:`of_pictures`.
        """
        if not self.of_pictures:
            return BandTransform(self, normalised=False)
        bytes_out = {"use_prefetcher": True}  # timm's name for leaving the normalisation to the batch
        return self.timm_transform(is_training=False, crop_pct=self.crop_pct, crop_mode=self.crop_mode, **bytes_out)

    def normalise(self, pixels: Tensor) -> Tensor:
        """What :meth:`pixels` gave, (channels, height, width) or a batch of such, as the model takes it."""
        values = pixels.float()
        if pixels.dtype == torch.uint8:
            values = values.div_(255)
        mean, std = (torch.tensor(each, device=values.device).view(-1, 1, 1) for each in (self.mean, self.std))
        return values.sub_(mean).div_(std) if values is not pixels else (values - mean).div_(std)

    def timm_transform(self, **options: Any) -> _Converted:
        """timm's transform with these ``options``, after the conversion to the model's channels."""
        from timm.data import create_transform

        after = create_transform(
            input_size=(self.channels, *self.size),
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
            **options,
        )
        return _Converted(self.channels, after)


@dataclass(frozen=True)
class _Converted:
    channels: int
    after: Any  # torchvision's Compose, which has no types

    def __call__(self, image: Picture) -> Tensor:
        made = self.after(to_channels(image, self.channels))
        return made if isinstance(made, Tensor) else torch.from_numpy(made)


@dataclass(frozen=True)
class BandTransform:
    """timm's resize and crop for images of any number of channels, by torchvision.

    Attributes:
        spec: of the input.
        cut: from a tensor (C, h, w) of fractions to one of the spec's size; by default what evaluation does.
        varied: done after it.
        normalised: whether mean and deviation are taken out at the end.
        last: done at the very end.
    """

    spec: InputSpec
    cut: Callable[[Tensor], Tensor] | None = None
    varied: Callable[[Tensor], Tensor] | None = None
    normalised: bool = True
    last: Callable[[Tensor], Tensor] | None = None

    def __call__(self, image: Picture) -> Tensor:
        values = torch.from_numpy(to_bands(image, self.spec.channels).fractions())
        values = self._cut(values) if self.cut is None else self.cut(values)
        values = values if self.varied is None else self.varied(values)
        values = self.spec.normalise(values) if self.normalised else values
        return values if self.last is None else self.last(values)

    def _cut(self, values: Tensor) -> Tensor:
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2 import functional as tv

        spec = self.spec
        height, width = (math.floor(side / spec.crop_pct) for side in spec.size)
        if spec.crop_mode != "squash":  # the shorter side fits, in proportion
            share = max(height / values.shape[1], width / values.shape[2])
            height = max(height, round(values.shape[1] * share))
            width = max(width, round(values.shape[2] * share))
        made = tv.resize(values, [height, width], InterpolationMode(spec.interpolation), antialias=True)
        return cast("Tensor", tv.center_crop(made, list(spec.size)))
