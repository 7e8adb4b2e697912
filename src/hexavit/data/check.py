"""Whether data is fit to train on: counts, sizes, channels, images that occur twice, files that are broken."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from hexavit.data.scan import Seen, scan
from hexavit.data.source import Source, Split
from hexavit.data.split import check_fraction, make_split
from hexavit.errors import DataError
from hexavit.images.decode import printable


@dataclass(frozen=True)
class Duplicate:
    """Images with the same pixels.

    Attributes:
        names: of the images.
        parts: in which of the data's parts they lie; with more than one, what is held out was trained on.
        classes: under which classes they lie; with more than one, a label is wrong.
    """

    names: tuple[str, ...]
    parts: tuple[str, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Broken:
    """An image that cannot be read, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class DataCheck:
    """What :func:`check_data` found.

    Attributes:
        data: where it is.
        images: how many there are, readable or not.
        classes: images by class, then by part.
        split: whether the parts are the data's ``own`` or made ``automatic``-ally, or why there is ``none``.
        heights: smallest, median and largest, in pixels.
        widths: the same.
        modes: images by Pillow's name of their channels.
        duplicates: those across parts first, then those across classes.
        broken: files that cannot be read.
    """

    data: str
    images: int
    classes: dict[str, dict[str, int]]
    split: str
    heights: tuple[float, float, float] | None
    widths: tuple[float, float, float] | None
    modes: dict[str, int]
    duplicates: tuple[Duplicate, ...]
    broken: tuple[Broken, ...]

    @property
    def leaks(self) -> tuple[Duplicate, ...]:
        """The duplicates that lie in more than one part."""
        return tuple(each for each in self.duplicates if len(each.parts) > 1)

    @property
    def contradictions(self) -> tuple[Duplicate, ...]:
        """The duplicates that lie in more than one class."""
        return tuple(each for each in self.duplicates if len(each.classes) > 1)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "leaks": len(self.leaks), "contradictions": len(self.contradictions)}

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def check_data(
    source: Source, *, val_fraction: float = 0.2, split_seed: int = 0, workers: int | None = None
) -> DataCheck:
    """Read every image once and say what there is.

    Args:
        source: the data.
        val_fraction: as training would hold out, where the data has no ``val`` part.
        split_seed: of that split.
        workers: processes that read.
    """
    check_fraction(val_fraction)
    how, split = _split(source, val_fraction, split_seed)
    seen = scan(source, workers=workers)
    part_of = {number: part for part, numbers in split.items() for number in numbers}
    classes: dict[str, dict[str, int]] = {name: dict.fromkeys(split, 0) for name in source.classes}
    for number, part in part_of.items():
        classes[source.classes[source.labels[number]]][part] += 1
    sizes = [each.size for each in seen if each.size]
    return DataCheck(
        data=source.place,
        images=len(source.names),
        classes=classes,
        split=how,
        heights=_spread([height for height, _ in sizes]),
        widths=_spread([width for _, width in sizes]),
        modes=dict(Counter(each.mode for each in seen if each.mode).most_common()),
        duplicates=_duplicates(source, seen, part_of),
        broken=tuple(Broken(source.names[each.number], each.fault) for each in seen if each.fault),
    )


def _split(source: Source, fraction: float, seed: int) -> tuple[str, Split]:
    everything = {"all": tuple(range(len(source.names)))}
    try:
        split = make_split(source, fraction, seed)
    except DataError as error:
        return f"none: {error}", source.parts or everything
    return ("own" if "val" in source.parts else "automatic"), split


def _spread(values: Sequence[int]) -> tuple[float, float, float] | None:
    return (min(values), median(values), max(values)) if values else None


def _duplicates(source: Source, seen: Sequence[Seen], part_of: dict[int, str]) -> tuple[Duplicate, ...]:
    groups = defaultdict(list)
    for each in seen:
        if each.digest:
            groups[each.digest].append(each.number)
    found = [
        Duplicate(
            names=tuple(source.names[number] for number in numbers),
            parts=tuple(sorted({part_of[number] for number in numbers})),
            classes=tuple(sorted({source.classes[source.labels[number]] for number in numbers})),
        )
        for numbers in groups.values()
        if len(numbers) > 1
    ]
    return tuple(sorted(found, key=lambda each: (-len(each.parts), -len(each.classes), each.names)))


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
    lines.append("channels   " + ", ".join(f"{mode} {count}" for mode, count in found.modes.items()))
    lines.append(
        f"duplicates {len(found.duplicates)}, of which {len(found.leaks)} across parts "
        f"and {len(found.contradictions)} across classes"
    )
    for each in found.duplicates:
        places = "; ".join(", ".join(of) for of in (each.parts, each.classes) if len(of) > 1)
        lines.append("  " + " = ".join(map(printable, each.names)) + (f" ({places})" if places else ""))
    lines.append(f"broken     {len(found.broken)}")
    lines += [f"  {each.reason}" for each in found.broken]
    return lines
