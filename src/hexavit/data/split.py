"""Which images are held out: the same ones on every machine, in proportion in every class, kept with the run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from hexavit.data.seeding import derive
from hexavit.data.source import Source, Split
from hexavit.errors import DataError


def make_split(source: Source, fraction: float, seed: int) -> Split:
    """The data's own parts; where it has no ``val``, a stratified ``fraction`` of ``train`` is held out as such.

    An image's place depends on its name and the seed alone, so a few images more move few others.

    Raises:
        DataError: when a class is too small to be divided, or the fraction is not between 0 and 1.
    """
    check_fraction(fraction)
    if "val" in source.parts:
        return source.parts
    train, val = _stratified(source, source.parts.get("train", tuple(range(len(source.names)))), fraction, seed)
    return {**source.parts, "train": train, "val": val}


def check_fraction(fraction: float) -> None:
    """Refuse a share of the images that cannot be held out.

    Raises:
        DataError: when it is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise DataError(f"the fraction that is held out is between 0 and 1, not {fraction:g}")


def _stratified(
    source: Source, numbers: tuple[int, ...], fraction: float, seed: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Divide ``numbers`` in two, ``fraction`` of each class (at least one image, not all) in the second."""
    by_class: dict[int, list[int]] = defaultdict(list)
    for number in sorted(numbers, key=lambda number: derive(seed, "split", source.names[number])):
        by_class[source.labels[number]].append(number)
    held_out: set[int] = set()
    for label, members in by_class.items():
        if len(members) < 2:
            raise DataError(f"the class {source.classes[label]!r} has a single image; two are needed to hold one out")
        held_out.update(members[: min(max(1, round(fraction * len(members))), len(members) - 1)])
    return tuple(n for n in numbers if n not in held_out), tuple(n for n in numbers if n in held_out)


def as_record(source: Source, split: Split, skipped: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The split by the images' names, and what was left out of it with the reason, for ``split.json``."""
    return {
        "data": source.identity,
        "parts": {part: [source.names[number] for number in numbers] for part, numbers in split.items()},
        "skipped": dict(skipped or {}),
    }


def from_record(source: Source, record: dict[str, Any]) -> Split:
    """The split of a record.

    Raises:
        DataError: when an image of it is no longer there.
    """
    numbers = {name: number for number, name in enumerate(source.names)}
    for names in record["parts"].values():
        for name in names:
            if name not in numbers:
                raise DataError(f"{source.place}: the image {name!r} of this run's split is no longer there")
    return {part: tuple(numbers[name] for name in names) for part, names in record["parts"].items()}
