"""Contact sheets: many small pictures with a line of text below each, in one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from hexavit.images.decode import as_drawn
from hexavit.images.multichannel import Bands, Picture
from hexavit.images.preprocess import InputSpec

_SIDE, _LINE, _GAP = 128, 14, 6  # pixels


@dataclass(frozen=True)
class Cell:
    """One picture of a sheet and the lines below it."""

    image: Picture
    lines: tuple[str, ...]


def contact_sheet(cells: Sequence[Cell], columns: int) -> Image.Image:
    """The cells row by row on white; pictures are scaled to a common side, text is cut where the cell ends."""
    font = ImageFont.load_default(size=11)
    height = _SIDE + _LINE * max(len(cell.lines) for cell in cells) + _GAP
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * (_SIDE + _GAP) + _GAP, rows * height + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for place, cell in enumerate(cells):
        left, top = _GAP + place % columns * (_SIDE + _GAP), _GAP + place // columns * height
        picture = _scaled(as_drawn(cell.image))
        sheet.paste(picture, (left + (_SIDE - picture.width) // 2, top + (_SIDE - picture.height) // 2))
        for number, line in enumerate(cell.lines):
            text = "".join(each if each.isprintable() else "?" for each in line)
            while font.getlength(text) > _SIDE:
                text = text[:-2] + "…"
            draw.text((left, top + _SIDE + number * _LINE), text, fill="black", font=font)
    return sheet


def as_seen(tensor: Tensor, spec: InputSpec) -> Image.Image:
    """A model's input (C, H, W) turned back into the picture that it is, its normalisation undone."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (spec.mean, spec.std))
    values = tensor.cpu() * std + mean
    if not spec.of_pictures:
        return Bands(values.permute(1, 2, 0).numpy()).shown()
    picture: Image.Image = to_pil_image(values.clamp(0, 1))
    return picture


def _scaled(image: Image.Image) -> Image.Image:
    share = _SIDE / max(image.size)
    size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
    # Small images keep their pixels visible.
    return image.resize(size, Image.Resampling.NEAREST if share > 1 else Image.Resampling.BILINEAR)
