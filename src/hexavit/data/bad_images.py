"""Images that cannot be read: found before training starts, and reported together or left out."""

from __future__ import annotations

from hexavit.data.scan import scan
from hexavit.data.source import OnBadImage, Source, Split
from hexavit.errors import DataError

Skipped = dict[str, str]
"""Names of images that were left out, each with the reason."""


def only_readable(
    source: Source, split: Split, on_bad_image: OnBadImage, workers: int | None = None
) -> tuple[Split, Skipped]:
    """The split without the images that cannot be read, and these. No other image changes its part.

    Args:
        source: the images; those in memory are not checked.
        split: numbers of its images by part.
        on_bad_image: ``error`` raises, ``skip`` leaves the broken images out.
        workers: threads that decode.

    Raises:
        DataError: naming the first broken image and their number; or a class or a part of which no image is left.
    """
    if source.hints.in_memory:
        return split, {}
    numbers = sorted(number for members in split.values() for number in members)
    faults = {image.number: image.fault for image in scan(source, numbers, workers) if image.fault}
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
    for name, before, now in zip(
        source.classes, *map(source.class_counts, (split["train"], left["train"])), strict=True
    ):
        if before and not now:
            raise DataError(f"{source.place}: no training image of the class {name!r} can be read")
    return left, {source.names[number]: fault for number, fault in faults.items()}
