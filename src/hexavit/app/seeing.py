"""What a model makes of one image: the classes with their certainty, and the feature maps stage by stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from hexavit.app.sources import ShownModel
from hexavit.errors import HexavitError
from hexavit.explain import attention_maps, attribute, overlay
from hexavit.images.contact_sheet import input_as_picture
from hexavit.images.multichannel import Picture

SIDE = 448
"""Pixels of the longer side of the pictures on the page."""
_MAPS = 6  # most feature maps shown


@dataclass(frozen=True)
class Seen:
    """One image through one model.

    Attributes:
        shown: the model.
        image: its input (1, C, H, W), normalised.
        picture: the input as a picture; its longer side has `SIDE` pixels.
        classes: names with probabilities, most probable first.
        indices: of these classes.
        maps: pictures of feature maps, each with a sentence.
    """

    shown: ShownModel
    image: Tensor
    picture: Image.Image
    classes: tuple[tuple[str, float], ...]
    indices: tuple[int, ...]
    maps: tuple[tuple[Image.Image, str], ...]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return self.image.shape[2], self.image.shape[3]

    def pixel(self, x: float, y: float) -> tuple[int, int]:
        """Row and column of the input under the point (x, y) of `picture`."""
        (height, width), (wide, high) = self.size, self.picture.size
        row, column = int(y * height / high), int(x * width / wide)
        return min(max(row, 0), height - 1), min(max(column, 0), width - 1)


@torch.no_grad()
def see(shown: ShownModel, image: Picture, *, top: int = 5) -> Seen:
    """Run a model on one image.

    Raises:
        HexavitError: the image does not have the model's channels.
    """
    loaded = shown.loaded
    spec, model = loaded.input_spec, cast("Any", loaded.model)
    batch = spec.transform()(image)[None]  # (1, C, H, W)
    probabilities = loaded.probabilities(model(batch))[0]  # (K,)
    best = probabilities.topk(min(top, len(probabilities)))
    classes = tuple(
        (loaded.classes[i], value) for i, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    )
    picture = enlarged(input_as_picture(batch[0], spec))
    return Seen(shown, batch, picture, classes, tuple(best.indices.tolist()), tuple(_feature_maps(model, batch)))


def attention_from(seen: Seen, row: int, column: int) -> list[tuple[Image.Image, str]]:
    """Attention from a pixel of the input, of the last attention part of each stage, mean over heads, over the input.

    Args:
        seen: the image and the model.
        row: of the pixel.
        column: of the pixel.

    Raises:
        HexavitError: the model has no attention part, or the pixel is outside the input.
    """
    found = attention_maps(seen.shown.loaded.model, seen.image[0], query=(column, row))
    last = {each.stage: each for each in found}
    pictures = []
    for each in last.values():
        height, width = each.cells.shape[1:]
        elsewhere = float(each.extra.sum() + each.padding.sum())
        words = f"stage {each.stage}, block {each.block}: {height} x {width} cells"
        words += f"; {elsewhere:.0%} on extra tokens or padding" if elsewhere > 0.005 else ""
        picture = enlarged(overlay(seen.picture, each.pixels()[0]))
        pictures.append((_with_point(picture, row, column, seen.size), words))
    return pictures


def depends_on(seen: Seen, method: str, target: int | None) -> list[tuple[Image.Image, str]]:
    """What a prediction depends on, over the input.

    Args:
        seen: the image and the model.
        method: a key of `hexavit.explain.METHODS`.
        target: index of the class; None for the most probable.

    Raises:
        HexavitError: an unknown method or class, or a library that is not installed.
    """
    target = seen.indices[0] if target is None else target
    found = attribute(seen.shown.loaded.model, seen.image[0], method, target=target)
    words = method if found.target is None else f"{method}, {seen.shown.loaded.classes[target]}"
    return [(enlarged(overlay(seen.picture, found.pixels())), words)]


def _with_point(picture: Image.Image, row: int, column: int, size: tuple[int, int]) -> Image.Image:
    """The picture with a ring around a pixel of the input."""
    x, y = (column + 0.5) * picture.width / size[1], (row + 0.5) * picture.height / size[0]
    radius = SIDE / 40
    ImageDraw.Draw(picture).ellipse((x - radius, y - radius, x + radius, y + radius), outline="cyan", width=3)
    return picture


def enlarged(picture: Image.Image) -> Image.Image:
    """A picture in RGB whose longer side has `SIDE` pixels."""
    factor = SIDE / max(picture.size)
    size = tuple(max(1, round(side * factor)) for side in picture.size)
    return picture.convert("RGB").resize((size[0], size[1]), Image.Resampling.BICUBIC)


def _feature_maps(model: Any, batch: Tensor) -> list[tuple[Image.Image, str]]:
    """Feature maps in the order of the model, at most `_MAPS`, evenly chosen, the last among them."""
    info = [entry for entry in model.feature_info if entry["reduction"] is not None]
    numbers = [number for number, entry in enumerate(model.feature_info) if entry["reduction"] is not None]
    chosen = sorted({round(i) for i in np.linspace(0, len(info) - 1, min(_MAPS, len(info)))}) if info else []
    indices = [numbers[i] for i in chosen]
    if not indices:
        return []
    maps = model.forward_intermediates(batch, indices, intermediates_only=True)
    pictures = []
    for entry, values in zip((info[i] for i in chosen), maps, strict=True):
        channels, height, width = values.shape[1:]
        words = f"{entry['module']}: {channels} channels, {height} x {width}, stride {entry['reduction']}"
        pictures.append((principal_colours(values[0]), words))
    return pictures


def principal_colours(values: Tensor) -> Image.Image:
    """The first three principal components of a map (C, H, W) over its positions, as red, green and blue.

    Each component is scaled from its 1st to its 99th percentile. Its sign, which is free, is such that the largest
    deviation is positive.
    """
    channels, height, width = values.shape
    rows = values.double().flatten(1).T  # (H * W, C)
    rows = rows - rows.mean(dim=0)
    if not rows.isfinite().all():
        raise HexavitError("this model's feature maps are not finite on this image")
    left, sizes, _ = torch.linalg.svd(rows, full_matrices=False)
    components = left * sizes  # (H * W, min(H * W, C))
    count = min(3, components.shape[1])
    picture = np.zeros((height * width, 3))
    for i in range(count):
        picture[:, i] = _scaled(components[:, i].numpy())
    if count == 1 or channels == 1:
        picture = np.repeat(picture[:, :1], 3, axis=1)
    return Image.fromarray((255 * picture).round().astype(np.uint8).reshape(height, width, 3))


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """To [0, 1] from the 1st to the 99th percentile."""
    if values[np.abs(values).argmax()] < 0:
        values = -values
    low, high = np.percentile(values, [1, 99])
    if high - low < 1e-12:
        return np.full_like(values, 0.5)
    scaled: NDArray[np.float64] = np.clip((values - low) / (high - low), 0, 1)
    return scaled
