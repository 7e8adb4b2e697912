"""Which images are for training and which for validation, and how a run records and finds them again."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from hexavit.data.seeding import derive
from hexavit.data.source import Source, Split
from hexavit.errors import DataError
from hexavit.images.decode import printable
from hexavit.images.prefetch import cores, work_ahead

SHARE, MOST = 0.2, 5_000
"""Default share of the images that validate, and their largest number: 90 % of 5,000 are known to within 0.8 points."""
_SAMPLE = 32  # images whose content is compared before a moved data set is matched by name


def make_split(source: Source, fraction: float | None, seed: int, train_images: int | None = None) -> Split:
    """The data's own parts; without a ``val`` part, a stratified share of ``train`` becomes it.

    An image's part depends on its name and the seed alone, so adding a few images moves few others.

    Args:
        source: the data.
        fraction: share of the images that validate, of each class; None for a fifth, but at most 5,000 images.
        seed: another seed gives another split.
        train_images: number of training images to take, the same share of each class; None for all. A larger number
            takes the same images, and more. Of the validation images as many are taken as ``fraction`` asks for; the
            data's own ``val`` part stays whole.

    Raises:
        DataError: a class is too small to be divided, the fraction is not between 0 and 1, there are fewer training
            images than ``train_images``, or more classes.
    """
    check_fraction(fraction)
    split = source.parts
    if "val" not in split:
        numbers = split.get("train", tuple(range(len(source.names))))
        train, val = _stratified(source, numbers, fraction or min(SHARE, MOST / max(1, len(numbers))), seed)
        split = {**split, "train": train, "val": val}
    return split if train_images is None else _take(source, split, fraction or SHARE, seed, train_images)


def _take(source: Source, split: Split, fraction: float, seed: int, count: int) -> Split:
    train, val = split["train"], split["val"]
    classes = len({source.labels[number] for number in train})
    if not classes <= count <= len(train):
        raise DataError(
            f"{source.place}: train_images is from {classes}, one of each class, to {len(train)}, not {count}"
        )
    if "val" not in source.parts:
        val = _some_of_each_class(source, val, max(classes, round(count * fraction / (1 - fraction))), seed)
    return {**split, "train": _some_of_each_class(source, train, count, seed), "val": val}


def _some_of_each_class(source: Source, numbers: tuple[int, ...], count: int, seed: int) -> tuple[int, ...]:
    by_class: dict[int, list[int]] = defaultdict(list)
    for number in sorted(numbers, key=lambda number: derive(seed, "take", source.names[number])):
        by_class[source.labels[number]].append(number)
    # Each image has its place in its class, as a share of the class: the smallest shares come first.
    places = {n: (i / len(members), label) for label, members in by_class.items() for i, n in enumerate(members)}
    taken = set(sorted(places, key=lambda number: places[number])[:count])
    return tuple(number for number in numbers if number in taken)


def check_fraction(fraction: float | None) -> None:
    """Check the share of the images that is kept for validation; None is the default.

    Raises:
        DataError: if it is not between 0 and 1.
    """
    if fraction is not None and not 0 < fraction < 1:
        raise DataError(f"the validation fraction must be between 0 and 1, not {fraction:g}")


def _stratified(
    source: Source, numbers: tuple[int, ...], fraction: float, seed: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Divide ``numbers`` in two, ``fraction`` of each class (at least one image, not all) in the second."""
    by_class: dict[int, list[int]] = defaultdict(list)
    for number in sorted(numbers, key=lambda number: derive(seed, "split", source.names[number])):
        by_class[source.labels[number]].append(number)
    validation: set[int] = set()
    for label, members in by_class.items():
        if len(members) < 2 and source.label_sets is not None:
            continue  # an image with several classes, which others have too
        if len(members) < 2:
            raise DataError(
                f"the class {source.classes[label]!r} has a single image; two are needed, one of them for validation"
            )
        validation.update(members[: min(max(1, round(fraction * len(members))), len(members) - 1)])
    return tuple(n for n in numbers if n not in validation), tuple(n for n in numbers if n in validation)


def as_record(source: Source, split: Split, skipped: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The content of ``split.json``.

    Args:
        source: the data.
        split: numbers of its images by part.
        skipped: names of images that were left out, each with the reason.

    Returns:
        ``data``: the source's identity; ``parts``: image names by part; ``checksums``: of these images' content, in
        the same order; ``skipped``.
    """
    checksums = image_checksums(source, [number for numbers in split.values() for number in numbers])
    return {
        "data": source.identity,
        "parts": {part: [source.names[number] for number in numbers] for part, numbers in split.items()},
        "checksums": {part: [checksums[number] for number in numbers] for part, numbers in split.items()},
        "skipped": dict(skipped or {}),
    }


def image_checksums(source: Source, numbers: Iterable[int]) -> dict[int, str]:
    """The checksum of each image's content, computed once; empty for an image that cannot be read."""
    missing = [number for number in numbers if number not in source.checksums]
    threads = 0 if source.hints.in_memory else cores()
    found = work_ahead(missing, partial(_checksum, source), threads, 64)
    source.checksums.update(zip(missing, found, strict=True))
    return source.checksums


def _checksum(source: Source, number: int) -> str:
    try:
        return source.checksum(number)
    except DataError:
        return ""


@dataclass(frozen=True)
class SplitMatch:
    """The images of a recorded split in a data set.

    Attributes:
        split: numbers of the images that were found, by part, in the order of the record.
        missing: recorded names of images that are not in the data.
        added: numbers of images of the data that the record does not have.
        by_content: whether images were found by their content, because names have changed.
    """

    split: Split
    missing: tuple[str, ...] = ()
    added: tuple[int, ...] = ()
    by_content: bool = False


def match_split(source: Source, record: Mapping[str, Any]) -> SplitMatch | None:
    """Find the images of a run's split in data that may have been copied, moved or renamed since.

    Images are matched by name, which is relative to the data folder. Of data at another place, a sample must also have
    the recorded content. Where names are missing or the sample differs, images are matched by content; an image whose
    content was in several parts counts as a training image.

    Args:
        source: the data.
        record: from ``split.json``; those of version 0.1 have no checksums and are matched by name alone.

    Returns:
        None if it is other data: no image has the content of a recorded one or, without checksums, the data is at
        another place and not all recorded names are in it.
    """
    numbers = {name: number for number, name in enumerate(source.names)}
    names = {name: part for part, members in record["parts"].items() for name in members}
    moved = record["data"] != source.identity
    recorded: dict[str, str] = {
        name: checksum
        for part, members in record["parts"].items()
        for name, checksum in zip(members, record.get("checksums", {}).get(part, ()), strict=False)
    }
    complete = all(name in numbers for name in names)
    if recorded and not (complete and (not moved or _sample_agrees(source, numbers, recorded))):
        found, by_content = _by_content(source, names, recorded), True
        if not any(found.values()):
            return None
    elif not moved or (complete and _family(record["data"]) == _family(source.identity)):
        found, by_content = {name: [numbers[name]] for name in names if name in numbers}, False
    else:
        return None
    placed = {number for of_name in found.values() for number in of_name}
    known = placed | {numbers[name] for name in record.get("skipped", ()) if name in numbers}
    return SplitMatch(
        split={
            part: tuple(number for name in members for number in found.get(name, ()))
            for part, members in record["parts"].items()
        },
        missing=tuple(name for name in names if not found.get(name)),
        added=tuple(number for number in range(len(source.names)) if number not in known),
        by_content=by_content,
    )


def from_record(source: Source, record: Mapping[str, Any]) -> Split:
    """The split of a record, all of whose images must be in the data.

    Raises:
        DataError: if it is other data, or an image is missing.
    """
    match = match_split(source, record)
    if match is None:
        raise DataError(f"{source.place}: this is not the data of the run, which was {printable(record['data'])}")
    if match.missing:
        raise DataError(f"{source.place}: the image {match.missing[0]!r} of this run's split is no longer there")
    return match.split


def _sample_agrees(source: Source, numbers: Mapping[str, int], recorded: Mapping[str, str]) -> bool:
    sample = list(recorded)[:: -(-len(recorded) // _SAMPLE)]
    checksums = image_checksums(source, [numbers[name] for name in sample])
    return any(recorded[name] and recorded[name] == checksums[numbers[name]] for name in sample)


def _by_content(source: Source, names: Mapping[str, str], recorded: Mapping[str, str]) -> dict[str, list[int]]:
    """Numbers of the images that are, or are copies of, each recorded one."""
    checksums = image_checksums(source, range(len(source.names)))
    candidates: dict[str, list[str]] = defaultdict(list)
    for name, checksum in recorded.items():
        if checksum:
            candidates[checksum].append(name)
    found: dict[str, list[int]] = {}
    for number, name in enumerate(source.names):
        same = candidates.get(checksums[number])
        if same and name not in same:  # moved, or a copy
            unused = [each for each in same if each not in found]
            name = min(unused or same, key=lambda each: names[each] != "train")
        if same:
            found.setdefault(name, []).append(number)
    if found:  # the same data; images that were edited in place keep their part
        placed = {number for of_name in found.values() for number in of_name}
        for number, name in enumerate(source.names):
            if number not in placed and name in names and name not in found:
                found[name] = [number]
    return found


def _family(identity: str) -> str:
    """The published set of an identity such as ``cifar10:/data``; empty for a path."""
    return "" if os.path.isabs(identity) else identity.partition(":")[0]
