"""The images to evaluate: the split of a run, found again in data that may have been copied, moved or renamed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hexavit.data.source import Source, Split
from hexavit.data.split import check_fraction, make_split, match_split
from hexavit.errors import DataError, nearest

Part = Literal["auto", "train", "val", "test", "all"]


@dataclass(frozen=True)
class ChosenPart:
    """The images of a split.

    Attributes:
        part: ``train``, ``val``, ``test``, ``all``, or ``new``: images that the run does not know.
        numbers: of the images in their source.
        notes: sentences about the choice.
        training_images: True if training images may be among them although they were not asked for.
    """

    part: str
    numbers: Sequence[int]
    notes: tuple[str, ...] = ()
    training_images: bool = False


def choose_part(record: Mapping[str, Any] | None, source: Source, part: Part) -> ChosenPart:
    """Choose the images to evaluate.

    Args:
        record: ``split.json`` of the model's run; None if the model is not from a run.
        source: the data.
        part: the split; see :func:`hexavit.evaluation.evaluate.evaluate_with_predictions`.

    Raises:
        DataError: the data has no such split, or only training images although these were not asked for.
    """
    every = range(len(source.names))
    if part == "all":
        return ChosenPart(part, every)
    match = match_split(source, record) if record else None
    if record is None or match is None:
        if part == "auto":
            name = next((name for name in ("test", "val") if name in source.parts), "all")
            if name == "all" and record is not None and not record.get("checksums"):
                note = (
                    f"The validation images of the run are not known in {source.place}, as it is not the data that it "
                    f"was trained on ({record['data']}) or was renamed: all {len(every)} images are evaluated, and "
                    "training images may be among them."
                )
                return ChosenPart(name, every, (note,), training_images=True)
            return ChosenPart(name, every if name == "all" else source.parts[name])
        return ChosenPart(part, _get(source, source.parts, part))
    trained = set(match.split.get("train", ()))
    # A split of the data's own that the run did not have counts without the run's training images.
    own = {name: tuple(n for n in numbers if n not in trained) for name, numbers in source.parts.items()}
    split = {**own, **match.split}
    notes = (f"{len(match.missing)} images of the run's data are missing here.",) if match.missing else ()
    if part != "auto":
        return ChosenPart(part, _get(source, split, part), notes)
    for name in ("test", "val"):
        if split.get(name):
            added = set(match.added).difference(split[name])
            left_out = (f"{len(added)} images that the run does not know are left out; --part all includes them.",)
            return ChosenPart(name, split[name], notes + (left_out if added else ()))
    if match.added:
        return ChosenPart("new", match.added, (*notes, "The run's training images are left out."))
    raise DataError(f"{source.place}: all images here are training images of the run; --part train evaluates them")


def split_to_probe(record: Mapping[str, Any] | None, source: Source, fraction: float | None, seed: int) -> Split:
    """The split for probing: the run's if it covers the data, else the data's own, else a new one.

    Training images of the run are in no part but ``train``.
    """
    check_fraction(fraction)
    match = match_split(source, record) if record else None
    if match is not None and not match.added and match.split.get("train") and match.split.get("val"):
        return match.split
    complete = "train" in source.parts and "test" in source.parts  # no validation images are needed
    split = source.parts if complete else make_split(source, fraction, seed)
    trained = set(match.split.get("train", ())) if match is not None else set()
    return {
        name: numbers if name == "train" else tuple(number for number in numbers if number not in trained)
        for name, numbers in split.items()
    }


def _get(source: Source, split: Split, part: str) -> Sequence[int]:
    if part not in split:
        raise DataError(f"{source.place}: this data has no part {part!r}: {nearest(part, ['all', *split])}")
    return split[part]
