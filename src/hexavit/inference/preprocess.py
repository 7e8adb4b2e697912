"""How an image becomes a model's input, as data: saved with a run, so that training and use cannot differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from PIL import Image
from torch import Tensor, nn

from hexavit.errors import DataError
from hexavit.inference.images import check_channels, to_channels

_FROM_CARD = ("mean", "std", "interpolation", "crop_pct", "crop_mode")

Transform = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class InputSpec:
    """Size, channels and normalisation of a model's input.

    Attributes:
        size: height and width in pixels.
        channels: 1 (grey) or 3 (RGB).
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
        check_channels(self.channels)
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

    def transform(self, varied: Callable[[Image.Image], Image.Image] | None = None) -> Transform:
        """The map from an image of any mode and size to a float tensor of shape (channels, height, width).

        Args:
            varied: done to the image between its crop and its becoming a tensor.
        """
        plain = self.timm_transform(is_training=False, crop_pct=self.crop_pct, crop_mode=self.crop_mode)
        if varied is not None:
            plain.after.transforms.insert(-2, varied)  # the last two make the tensor and normalise it
        return plain

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

    def __call__(self, image: Image.Image) -> Tensor:
        return cast("Tensor", self.after(to_channels(image, self.channels)))
