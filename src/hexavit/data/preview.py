"""A contact sheet of images as a model receives them, before and after augmentation."""

from __future__ import annotations

from pathlib import Path

import hexavit
from hexavit.data.augment import Kind, training_transform
from hexavit.data.seeding import derive, seeded
from hexavit.data.source import Augment, Source
from hexavit.data.statistics import suited_to
from hexavit.errors import DataError
from hexavit.files import replacing
from hexavit.images.contact_sheet import Cell, contact_sheet, input_as_picture
from hexavit.images.preprocess import InputSpec

_DRAWS = 4  # augmented inputs of each image


def input_of(
    source: Source, model: str, img_size: tuple[int, int] | None = None, channels: int | None = None
) -> InputSpec:
    """The input of the named model in training on this data."""
    hints = source.hints
    size, channels = img_size or hints.size, channels or hints.channels
    made = hexavit.create_model(model, num_classes=len(source.classes), in_chans=channels, img_size=size)
    return suited_to(source, range(len(source.names)), hints.suited(InputSpec.of_model(made)))


def draw_data(
    source: Source,
    spec: InputSpec,
    path: Path,
    *,
    augment: Augment = "auto",
    magnitude: int = 9,
    erasing: float | None = None,
    rows: int = 12,
    seed: int = 0,
) -> None:
    """Draw a PNG file with one row for each image: the file, the input in evaluation, and four inputs in training.

    The images are drawn at random, one of each class before a second of any. Mixing of images (Mixup, CutMix), which
    happens in a batch, is not drawn.

    Args:
        source: the images.
        spec: of the model's input.
        path: the file; an existing one is replaced.
        augment: as in :func:`hexavit.data.augment.training_transform`; ``auto`` is what the data suggests.
        magnitude: of RandAugment.
        erasing: share of erased images.
        rows: number of images.
        seed: of the choice and the augmentation.

    Raises:
        DataError: if none of the images can be read.
        RunError: if the file cannot be written.
    """
    kind: Kind = source.hints.augment if augment == "auto" else augment
    plain, varied = spec.transform(), training_transform(spec, kind, magnitude=magnitude, erasing=erasing)
    cells: list[Cell] = []
    for number in _shuffled(source, seed):
        try:
            image = source.load(number)
        except DataError:  # reported by the check
            continue
        label = ", ".join(source.classes[each] for each in source.labels_of(number)) or "no class"
        cells.append(Cell(image, (f"{label}: {Path(source.names[number]).name}", f"{image.width} x {image.height}")))
        cells.append(Cell(input_as_picture(plain(image), spec), ("evaluation", f"{spec.size[1]} x {spec.size[0]}")))
        for draw in range(_DRAWS):
            with seeded(seed, "sheet", number, draw):
                cells.append(Cell(input_as_picture(varied(image), spec), (f"training: {kind}",)))
        if len(cells) >= rows * (_DRAWS + 2):
            break
    if not cells:
        raise DataError(f"{source.place}: no image can be read, so there is nothing to draw")
    with replacing(path) as temporary:
        contact_sheet(cells, _DRAWS + 2).save(temporary, format="png")


def _shuffled(source: Source, seed: int) -> list[int]:
    """All numbers, shuffled, in rounds of one image of each class."""
    round_of: dict[int, int] = {}
    order = []
    for number in sorted(range(len(source.names)), key=lambda number: derive(seed, "sheet", source.names[number])):
        label = source.labels[number]
        order.append((round_of.setdefault(label, 0), label, number))
        round_of[label] += 1
    return [number for *_, number in sorted(order)]
