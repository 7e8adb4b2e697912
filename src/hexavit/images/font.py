"""The font of pictures: DejaVu Sans, which comes with matplotlib and draws Latin, Greek, Cyrillic, Arabic and more."""

from __future__ import annotations

from functools import cache

from PIL import ImageFont

_NAME = "DejaVuSans.ttf"


def drawable(text: str) -> str:
    """The text with characters that the font lacks written as escapes, such as ``\\\\u8d70``.

    matplotlib draws with the same font by default, so that it gives no warning of missing glyphs either.
    """
    known = _characters()
    return "".join(each if ord(each) in known and each.isprintable() else ascii(each)[1:-1] for each in text)


@cache
def load_font(size: int) -> ImageFont.FreeTypeFont:
    """The font at a size in pixels."""
    return ImageFont.truetype(_path(), size)


@cache
def _characters() -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(_path()).get_charmap())


def _path() -> str:
    from matplotlib import get_data_path

    return f"{get_data_path()}/fonts/ttf/{_NAME}"
