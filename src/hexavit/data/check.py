"""A check of data before training: counts, sizes, channels, duplicates, files that are broken or not used."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from hexavit.data.scan import ScannedImage, scan
from hexavit.data.source import Source, Split, describe_unused
from hexavit.data.split import check_fraction, make_split
from hexavit.errors import DataError
from hexavit.images.decode import WHITE, printable, white_of

_LISTED = 10  # files that are not used

_MODES = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey with transparency",
    "P": "palette",
    "I;16": "grey, 16 bits",
    "RGBA": "RGB with transparency",
}


@dataclass(frozen=True)
class Duplicate:
    """Images with the same pixels.

    Attributes:
        names: of the images.
        parts: of the data that they are in; with more than one, a validation or test image was trained on.
        classes: that they are in; with more than one, a label is wrong.
    """

    names: tuple[str, ...]
    parts: tuple[str, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Broken:
    """An image that cannot be read.

    Attributes:
        name: of the image.
        reason: the message.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class DataCheck:
    """The result of :func:`check_data`.

    Attributes:
        data: the path.
        images: how many there are, readable or not.
        classes: number of images by class, then by part.
        split: ``own`` if the parts are the data's, ``automatic``, or ``none`` with the reason.
        heights: smallest, median and largest, in pixels.
        widths: likewise.
        modes: number of images by Pillow's name of their channels.
        peak: the largest value in images of 16 bits; None without any.
        duplicates: those across parts first, then those across classes.
        broken: files that cannot be read.
        unused: names of files that are not used: not in a class folder, or without an ending of an image.
    """

    data: str
    images: int
    classes: dict[str, dict[str, int]]
    split: str
    heights: tuple[float, float, float] | None
    widths: tuple[float, float, float] | None
    modes: dict[str, int]
    peak: int | None
    duplicates: tuple[Duplicate, ...]
    broken: tuple[Broken, ...]
    unused: tuple[str, ...]

    @property
    def leaks(self) -> tuple[Duplicate, ...]:
        """The duplicates in more than one part."""
        return tuple(each for each in self.duplicates if len(each.parts) > 1)

    @property
    def contradictions(self) -> tuple[Duplicate, ...]:
        """The duplicates in more than one class."""
        return tuple(each for each in self.duplicates if len(each.classes) > 1)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "leaks": len(self.leaks), "contradictions": len(self.contradictions)}

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def check_data(
    source: Source, *, val_fraction: float | None = None, split_seed: int = 0, workers: int | None = None
) -> DataCheck:
    """Read every image once and report what there is.

    Args:
        source: the data.
        val_fraction: share of each class that training would keep for validation, where the data has no ``val`` part;
            by default as in training.
        split_seed: of that split.
        workers: threads that read; by default one for each processor.
    """
    check_fraction(val_fraction)
    how, split = _split(source, val_fraction, split_seed)
    scanned = scan(source, workers=workers)
    peaks = [image.peak for image in scanned if image.peak is not None]
    part_of = {number: part for part, numbers in split.items() for number in numbers}
    classes: dict[str, dict[str, int]] = {name: dict.fromkeys(split, 0) for name in source.classes}
    for number, part in part_of.items():
        for label in source.labels_of(number):
            classes[source.classes[label]][part] += 1
    sizes = [each.size for each in scanned if each.size]
    return DataCheck(
        data=source.place,
        images=len(source.names),
        classes=classes,
        split=how,
        heights=_spread([height for height, _ in sizes]),
        widths=_spread([width for _, width in sizes]),
        modes=dict(Counter(each.mode for each in scanned if each.mode).most_common()),
        peak=max(peaks) if peaks else None,
        duplicates=_duplicates(source, scanned, part_of),
        broken=tuple(Broken(source.names[each.number], each.fault) for each in scanned if each.fault),
        unused=source.unused,
    )


def _split(source: Source, fraction: float | None, seed: int) -> tuple[str, Split]:
    everything = {"all": tuple(range(len(source.names)))}
    try:
        split = make_split(source, fraction, seed)
    except DataError as error:
        return f"none: {error}", source.parts or everything
    return ("own" if "val" in source.parts else "automatic"), split


def _spread(values: Sequence[int]) -> tuple[float, float, float] | None:
    return (min(values), median(values), max(values)) if values else None


def _duplicates(source: Source, scanned: Sequence[ScannedImage], part_of: dict[int, str]) -> tuple[Duplicate, ...]:
    groups = defaultdict(list)
    for image in scanned:
        if image.pixels:
            groups[image.pixels].append(image.number)
    found = [
        Duplicate(
            names=tuple(source.names[number] for number in numbers),
            parts=tuple(sorted({part_of[number] for number in numbers})),
            classes=_classes_of(source, numbers),
        )
        for numbers in groups.values()
        if len(numbers) > 1
    ]
    return tuple(sorted(found, key=lambda each: (-len(each.parts), -len(each.classes), each.names)))


def _classes_of(source: Source, numbers: Sequence[int]) -> tuple[str, ...]:
    """The classes of the same image: more than one only if its labels differ."""
    sets = {source.labels_of(number) for number in numbers}
    named = {source.classes[label] for labels in sets for label in labels}
    return tuple(sorted(named)) if len(sets) > 1 or source.label_sets is None else ()


def _lines(found: DataCheck) -> list[str]:
    parts = list(next(iter(found.classes.values())))
    width = max(5, *map(len, found.classes))
    lines = [f"{found.data}: {found.images} images in {len(found.classes)} classes; split: {found.split}", ""]
    lines.append(f"{'class':<{width}}" + "".join(f"{part:>8}" for part in parts))
    lines += [
        f"{name:<{width}}" + "".join(f"{count:>8}" for count in of.values()) for name, of in found.classes.items()
    ]
    lines.append("")
    for name, values in (("height", found.heights), ("width", found.widths)):
        if values:
            low, middle, high = values
            lines.append(f"{name:<11}{low:g} to {high:g} pixels, median {middle:g}")
    lines.append("channels   " + ", ".join(f"{_MODES.get(mode, mode)}: {count}" for mode, count in found.modes.items()))
    if found.peak is not None:
        white = white_of(found.peak)
        as_read = "read as they are" if white == WHITE else f"brightened in training, so that {white:,} is white"
        lines.append(f"16 bits    values up to {found.peak:,} of {WHITE:,} ({white.bit_length()} bits), {as_read}")
    lines.append(
        f"duplicates {len(found.duplicates)}, of which {len(found.leaks)} across parts "
        f"and {len(found.contradictions)} across classes"
    )
    for each in found.duplicates:
        places = "; ".join(", ".join(of) for of in (each.parts, each.classes) if len(of) > 1)
        lines.append("  " + " = ".join(map(printable, each.names)) + (f" ({places})" if places else ""))
    lines.append(f"broken     {len(found.broken)}")
    lines += [f"  {each.reason}" for each in found.broken]
    lines.append(f"not used   {describe_unused(found.unused) or 0}")
    lines += [f"  {printable(name)}" for name in found.unused[:_LISTED]]
    if len(found.unused) > _LISTED:
        lines.append("  ...; --json lists all of them")
    return lines
