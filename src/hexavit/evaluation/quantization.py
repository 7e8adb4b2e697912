"""Exports a model in int8, calibrated on images of the user, and says what it costs in accuracy and gains in speed."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hexavit.data import Source, open_source
from hexavit.errors import DataError, HexavitError, RunError
from hexavit.evaluation.run_split import choose_part
from hexavit.export import export_model
from hexavit.export.description import ExportDescription
from hexavit.export.export import written_whole
from hexavit.export.int8 import check_quantizable, has_dot_products, images_per_second, quantize
from hexavit.export.writers import open_run
from hexavit.images.decode import read_image
from hexavit.images.listing import find_images
from hexavit.inference.load_model import LoadedModel

CALIBRATION, EVALUATION = 300, 2000
"""The most images that are used to calibrate, and to compare."""
_BATCH = 8


@dataclass(frozen=True)
class Int8Report:
    """An int8 file beside the float32 file of the same model.

    Attributes:
        path: the int8 file.
        description: what it says of itself.
        calibration_images: on which the ranges of activations were measured.
        images: that were compared.
        accuracy: of float32 and of int8, fractions of 1; None for images without labels of the model's classes.
        agreement: share of the images whose most probable class is the same.
        bytes: sizes of the two files.
        speed: images per second of the two files in the engine, in batches of `batch`.
        batch: images in a batch.
        dot_products: whether the processor has 8-bit dot products; None if that is not known.
    """

    path: Path
    description: ExportDescription
    calibration_images: int
    images: int
    accuracy: tuple[float, float] | None
    agreement: float
    bytes: tuple[int, int]
    speed: tuple[float, float]
    batch: int
    dot_products: bool | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; each pair is float32, int8."""
        return {
            **{"path": str(self.path), "model": self.description.model, "precision": "int8"},
            **{"calibration_images": self.calibration_images, "images": self.images},
            "accuracy": None if self.accuracy is None else list(self.accuracy),
            **{"agreement": self.agreement, "bytes": list(self.bytes), "images_per_second": list(self.speed)},
            **{"batch": self.batch, "int8_dot_products": self.dot_products},
        }

    def __str__(self) -> str:
        before, after = self.bytes
        lines = [
            f"{self.path}: {self.description.model or 'model'} in int8, calibrated on {self.calibration_images} images",
            "",
            f"size       {before / 1e6:.1f} MB in float32, {after / 1e6:.1f} MB in int8",
            f"speed      {self.speed[0]:.1f} images/s in float32, {self.speed[1]:.1f} in int8 "
            f"({self.speed[1] / self.speed[0]:.2f}x), batch {self.batch}",
        ]
        if self.accuracy is not None:
            one, other = self.accuracy
            change = f"{100 * (one - other):.2f} points lost" if one > other else "nothing lost"
            lines.append(f"accuracy   {one:.2%} in float32, {other:.2%} in int8 ({change}), {self.images} images")
        lines.append(f"agreement  {self.agreement:.2%} of {self.images} images have the same most probable class")
        if self.dot_products is False:
            lines.append(
                "This processor has no 8-bit dot products: int8 makes the file smaller, and may not be faster."
            )
        if self.accuracy is not None and self.accuracy[0] - self.accuracy[1] > 0.01:
            lines.append("More than 1 point of accuracy is lost: float16 (--half) halves the file and loses nothing.")
        return "\n".join(lines)


def export_int8(
    loaded: LoadedModel, path: str | Path, calibrate: str, *, overwrite: bool = False, **options: Any
) -> Int8Report:
    """Export a model in int8.

    The float32 file is made and checked first, then quantised, and both are compared on the images: those that
    calibrate are not compared unless there are no others.

    Args:
        loaded: the model.
        path: the `.onnx` or `.xml` file to write.
        calibrate: a data set as in ``hexavit train``, or a folder of images without labels. The images that `evaluate`
            takes are compared, others calibrate.
        overwrite: replace a file that is there.
        options: of :func:`hexavit.export_model`: `dynamic`, `img_size`.

    Raises:
        HexavitError: the model cannot be exported, or the data has no readable images. No file is left.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise RunError(f"{path}: this already exists; pass overwrite=True to replace it")
    check_quantizable(path)
    if not loaded.classes:
        raise HexavitError("this model has no classifier: int8 is compared by its predictions")
    data = _Data(calibrate, loaded)
    calibrating, compared = data.split()
    with tempfile.TemporaryDirectory() as folder:
        report = export_model(loaded, Path(folder) / f"float{path.suffix.lower()}", **options)
        about = report.description
        batch = _BATCH if "batch" in about.dynamic else 1
        batches = list(data.batches(calibrating, about, batch))
        with written_whole(path) as temporary:
            made = quantize(report.path, temporary, batches)
            size = sum(file.stat().st_size for file in temporary.parent.iterdir())
            runs = open_run(report.path, about), open_run(temporary, made)
            rows = [[run(images) for run in runs] for images in data.batches(compared, about, batch)]
            if not all(np.isfinite(row[1]).all() for row in rows):
                raise HexavitError(f"{path}: the int8 model gives values that are not finite, so it was not written")
            speed = images_per_second(runs, batches[0])
    logits = [np.concatenate([row[i] for row in rows]) for i in (0, 1)]
    labels = data.labels(compared)
    right = None if labels is None else [_accuracy(each, labels, loaded.thresholds) for each in logits]
    return Int8Report(
        path=path,
        description=made,
        calibration_images=len(calibrating),
        images=len(compared),
        accuracy=None if right is None else (right[0], right[1]),
        agreement=float((logits[0].argmax(1) == logits[1].argmax(1)).mean()),
        bytes=(report.bytes, size),
        speed=(speed[0], speed[1]),
        batch=batch,
        dot_products=has_dot_products(),
    )


class _Data:
    """Images, with the labels that are classes of the model."""

    def __init__(self, given: str, loaded: LoadedModel) -> None:
        self._given, self._record = given, loaded.split
        self._numbers = {**loaded.synonyms, **{name: i for i, name in enumerate(loaded.classes)}}
        self._source: Source | None = None
        self._files: list[Path] = []
        try:
            self._source = open_source(given)
        except DataError:
            if not Path(given).is_dir():
                raise
            self._files = list(find_images([given]))  # a folder without classes
        several = self._source is not None and self._source.label_sets is not None
        self._named = (
            self._source is not None
            and several == (loaded.thresholds is not None)
            and all(name in self._numbers for name in self._source.classes)
        )

    def split(self) -> tuple[list[int], list[int]]:
        """Numbers of the images that calibrate, and of those that are compared.

        Raises:
            DataError: there are no images.
        """
        count = len(self._files) if self._source is None else len(self._source.names)
        if not count:
            raise DataError(f"{self._given}: there are no images to calibrate on")
        every = list(range(count))
        random.Random(0).shuffle(every)
        evaluated = set(self._evaluated())
        others = [number for number in every if number not in evaluated]
        calibrating = (others or every)[: min(CALIBRATION, max(1, count // 2))]
        used = set(calibrating)
        compared = [n for n in every if n not in used and (n in evaluated or not evaluated)][:EVALUATION]
        return calibrating, compared or calibrating

    def _evaluated(self) -> Sequence[int]:
        """The images that `hexavit evaluate` takes, if these are not all."""
        if self._source is None:
            return ()
        try:
            chosen = choose_part(self._record, self._source, "auto")
        except DataError:  # all are training images of the run
            return ()
        return chosen.numbers if len(chosen.numbers) < len(self._source.names) else ()

    def batches(self, numbers: Sequence[int], about: ExportDescription, size: int) -> Iterator[NDArray[np.float32]]:
        """Normalised images (size, C, H, W); the last batch may be smaller."""
        spec = about.input_spec
        pixels = spec.pixels()
        for first in range(0, len(numbers), size):
            loaded = [pixels(self._load(number)) for number in numbers[first : first + size]]
            yield np.stack([spec.normalise(each).numpy() for each in loaded])

    def _load(self, number: int) -> Any:
        return read_image(self._files[number]) if self._source is None else self._source.load(number)

    def labels(self, numbers: Sequence[int]) -> list[set[int]] | None:
        """Indices of the classes of each image; None where they are not the model's."""
        if self._source is None or not self._named:
            return None
        return [{self._numbers[self._source.classes[i]] for i in self._source.labels_of(n)} for n in numbers]


def _accuracy(logits: NDArray[np.float32], labels: Sequence[set[int]], thresholds: Sequence[float] | None) -> float:
    """Share of the images of which every class is right."""
    if thresholds is None:
        return sum(int(row.argmax()) in known for row, known in zip(logits, labels, strict=True)) / len(labels)
    reached = 1 / (1 + np.exp(-logits.astype(np.float64))) >= np.array(thresholds)
    return sum(set(np.flatnonzero(row)) == known for row, known in zip(reached, labels, strict=True)) / len(labels)
