"""Broken images, found before training starts: refused together, or left out and recorded."""

from __future__ import annotations

from hexavit.data.scan import scan
from hexavit.data.source import OnBadImage, Source, Split
from hexavit.errors import DataError

Skipped = dict[str, str]
"""Names of images that were left out, each with the reason."""


def only_readable(
    source: Source, split: Split, on_bad_image: OnBadImage, workers: int | None = None
) -> tuple[Split, Skipped]:
    """The split without the images that cannot be read, and these.

    What is split off stays so: the place of every other image is that of the split as given.

    Args:
        source: the images; of those in memory none is looked at.
        split: of them.
        on_bad_image: ``error`` refuses all of it, ``skip`` leaves the broken ones out.
        workers: processes that read.

    Raises:
        DataError: naming the first broken image and how many there are; or a class or a part of which nothing is left.
    """
    if source.hints.in_memory:
        return split, {}
    numbers = sorted(number for part in split.values() for number in part)
    faults = {seen.number: seen.fault for seen in scan(source, numbers, workers) if seen.fault}
    if not faults:
        return split, {}
    if on_bad_image == "error":
        raise DataError(
            f"{next(iter(faults.values()))}; of {len(numbers)} images {len(faults)} cannot be read: "
            "--on-bad-image skip leaves them out, and `hexavit data check` names them all"
        )
    left = {part: tuple(number for number in members if number not in faults) for part, members in split.items()}
    for part, members in left.items():
        if not members:
            raise DataError(f"{source.place}: no image of the part {part!r} can be read")
    lost = {source.labels[n] for n in split["train"]} - {source.labels[n] for n in left["train"]}
    if lost:
        raise DataError(f"{source.place}: no training image of the class {source.classes[min(lost)]!r} can be read")
    return left, {source.names[number]: fault for number, fault in faults.items()}
