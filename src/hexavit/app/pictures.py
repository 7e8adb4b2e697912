"""The images of the page: uploads, the photographs of scikit-learn, and the images of a run's data."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import Image

from hexavit.data import open_source
from hexavit.errors import DataError
from hexavit.images.decode import read_image
from hexavit.images.multichannel import Picture
from hexavit.runs.run_folder import Run

MAX_UPLOAD = 32 * 2**20
"""Bytes of the largest file that is accepted."""
_MAX_PIXELS = 50_000_000
_PER_RUN = 12


@cache
def photographs() -> dict[str, Image.Image]:
    """The two photographs that scikit-learn brings, by their names."""
    from sklearn.datasets import load_sample_images

    found = load_sample_images()
    return {
        Path(name).stem: Image.fromarray(pixels) for name, pixels in zip(found.filenames, found.images, strict=True)
    }


def read_upload(path: str | Path, name: str | None = None) -> Picture:
    """The image of an uploaded file.

    Args:
        path: of the file.
        name: for the error, in place of the path.

    Raises:
        DataError: the file is no image, is damaged, or is too large; the message has its name, not its folder.
    """
    path = Path(path)
    name = name or path.name
    try:
        image = read_image(path, keep_16_bits=True)
    except DataError as error:
        raise DataError(str(error).replace(str(path), name).replace(str(path.parent), "…")) from None
    width, height = image.size
    if height * width > _MAX_PIXELS:
        raise DataError(f"{name}: an image has at most {_MAX_PIXELS:,} pixels here, not {width} x {height}")
    return image


def run_images(run: Run, count: int = _PER_RUN) -> list[tuple[str, Picture]]:
    """Validation images of a run with their classes, evenly from all.

    Raises:
        HexavitError: the data of the run is not where it was, or cannot be read.
    """
    record = run.split_record()
    source = open_source(str(record.get("data", "")))
    wanted = set(record["parts"].get("val") or ())
    numbers = [number for number, name in enumerate(source.names) if name in wanted] or list(range(len(source.names)))
    chosen = numbers[:: max(1, len(numbers) // count)][:count]
    return [
        (", ".join(source.classes[label] for label in source.labels_of(number)), source.load(number))
        for number in chosen
    ]
