"""Contact sheets: one picture of many small images, each with lines of text below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from hexavit.images.decode import to_rgb_for_display
from hexavit.images.font import drawable, load_font
from hexavit.images.multichannel import MultichannelImage, Picture
from hexavit.images.preprocess import InputSpec

_SIDE, _LINE, _GAP = 128, 14, 6  # pixels


@dataclass(frozen=True)
class Cell:
    """One image of a sheet.

    Attributes:
        image: of any mode and size.
        lines: the text below it.
    """

    image: Picture
    lines: tuple[str, ...]


def contact_sheet(cells: Sequence[Cell], columns: int, side: int = _SIDE) -> Image.Image:
    """The cells row by row on white; images are scaled to the same longer side, long lines are cut.

    Args:
        cells: the images.
        columns: number of images in a row.
        side: longer side of an image in pixels.
    """
    font = load_font(10)
    height = side + _LINE * max(len(cell.lines) for cell in cells) + _GAP
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * (side + _GAP) + _GAP, rows * height + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for place, cell in enumerate(cells):
        left, top = _GAP + place % columns * (side + _GAP), _GAP + place // columns * height
        picture = _scaled(to_rgb_for_display(cell.image), side)
        sheet.paste(picture, (left + (side - picture.width) // 2, top + (side - picture.height) // 2))
        for number, line in enumerate(cell.lines):
            text = drawable(line)
            while font.getlength(text) > side:
                text = text[:-2] + "…"
            draw.text((left, top + side + number * _LINE), text, fill="black", font=font)
    return sheet


def input_as_picture(tensor: Tensor, spec: InputSpec) -> Image.Image:
    """A model's input (C, H, W) as a picture: the inverse of the normalisation."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (spec.mean, spec.std))
    values = tensor.cpu() * std + mean
    if not spec.of_pictures:
        return MultichannelImage(values.permute(1, 2, 0).numpy()).for_display()
    picture: Image.Image = to_pil_image(values.clamp(0, 1))
    return picture


def _scaled(image: Image.Image, side: int) -> Image.Image:
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # The pixels of small images stay visible.
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR)
