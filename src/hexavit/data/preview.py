"""A contact sheet of images as a model will see them, before and after augmentation."""

from __future__ import annotations

from pathlib import Path

import hexavit
from hexavit.data.augment import training_transform
from hexavit.data.seeding import derive, seeded
from hexavit.data.source import Augment, Source
from hexavit.errors import DataError
from hexavit.files import replacing
from hexavit.images.contact_sheet import Cell, as_seen, contact_sheet
from hexavit.images.preprocess import InputSpec

_VARIED = 4  # augmented draws of each image


def input_of(source: Source, model: str, img_size: tuple[int, int] | None = None) -> InputSpec:
    """The input that training the model of that name on this data would have."""
    hints = source.hints
    size = img_size or hints.size
    made = hexavit.create_model(model, num_classes=len(source.classes), in_chans=hints.channels, img_size=size)
    return hints.suited(InputSpec.of_model(made))


def draw_data(
    source: Source, spec: InputSpec, path: Path, *, augment: Augment = "auto", rows: int = 12, seed: int = 0
) -> None:
    """Draw a PNG file with a row an image: the file, the input in evaluation, and four inputs in training.

    The images are drawn at random, one a class before a second of any.

    Raises:
        DataError: when none of the images tried can be read.
    """
    kind = source.hints.augment if augment == "auto" else augment
    plain, varied = spec.transform(), training_transform(spec, kind)
    cells: list[Cell] = []
    for number in _chosen(source, seed):
        try:
            image = source.load(number)
        except DataError:  # the check names it
            continue
        label = source.classes[source.labels[number]]
        cells.append(Cell(image, (f"{label}: {Path(source.names[number]).name}", f"{image.width} x {image.height}")))
        cells.append(Cell(as_seen(plain(image), spec), ("evaluation", f"{spec.size[1]} x {spec.size[0]}")))
        for draw in range(_VARIED):
            with seeded(seed, "sheet", number, draw):
                cells.append(Cell(as_seen(varied(image), spec), (f"training: {kind}",)))
        if len(cells) >= rows * (_VARIED + 2):
            break
    if not cells:
        raise DataError(f"{source.place}: no image can be read, so there is nothing to draw")
    with replacing(path) as temporary:
        contact_sheet(cells, _VARIED + 2).save(temporary, format="png")


def _chosen(source: Source, seed: int) -> list[int]:
    """All numbers, shuffled, in rounds of one a class."""
    turn: dict[int, int] = {}
    rounds = []
    for number in sorted(range(len(source.names)), key=lambda number: derive(seed, "sheet", source.names[number])):
        label = source.labels[number]
        rounds.append((turn.setdefault(label, 0), label, number))
        turn[label] += 1
    return [number for *_, number in sorted(rounds)]
