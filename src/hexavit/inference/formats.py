"""Predictions as a text table, CSV or JSON lines, written row by row."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TextIO

from hexavit.errors import HexavitError
from hexavit.images.decode import EXTENSIONS, shown
from hexavit.inference.prediction import Prediction

Format = Literal["table", "csv", "jsonl"]

_BY_SUFFIX: dict[str, Format] = {".csv": "csv", ".json": "jsonl", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_FIRST = 50  # rows that determine the column widths of a table


def format_of(path: Path) -> Format:
    """The format of a file, by its suffix.

    Raises:
        HexavitError: the suffix is that of an image.
    """
    if path.suffix.lower() in EXTENSIONS:
        raise HexavitError(f"{shown(path)}: predictions are written as .csv, .jsonl or .txt, not as an image")
    return _BY_SUFFIX.get(path.suffix.lower(), "table")


class Rows:
    """Writes predictions to an open text file; :meth:`close` writes the buffered rows.

    Args:
        kind: ``table`` (one row per image, aligned by the first fifty rows), ``csv`` (columns ``image``, ``class_1``,
            ``probability_1``, ...) or ``jsonl`` (one object per line). If the model predicts several classes per image,
            ``classes`` follows the image: names with ``|`` between them.
        file: open file to write to.
    """

    def __init__(self, kind: Format, file: TextIO) -> None:
        self._file = file
        self._row: Callable[[Prediction], None] = {"table": self._table, "csv": self._csv, "jsonl": self._json}[kind]
        self._waiting: list[list[str]] = []
        self._widths: list[int] | None = None
        self._begun = False
        self._several: tuple[str, ...] = ()

    def write(self, found: Prediction) -> None:
        """Add a prediction."""
        self._row(found)

    def close(self) -> None:
        """Write the buffered rows; the file stays open."""
        self._lay_out()
        self._file.flush()

    def _json(self, found: Prediction) -> None:
        print(json.dumps(found.as_dict(), ensure_ascii=False), file=self._file)

    def _csv(self, found: Prediction) -> None:
        table = csv.writer(self._file, lineterminator="\n")
        if not self._begun:
            pairs = [name for n in range(1, len(found.top) + 1) for name in (f"class_{n}", f"probability_{n}")]
            table.writerow(["image", *(() if found.classes is None else ("classes",)), *pairs])
            self._begun = True
        table.writerow(
            [str(found.image), *_joined(found), *(cell for name, p in found.top for cell in (name, f"{p:.6f}"))]
        )

    def _table(self, found: Prediction) -> None:
        row = [shown(found.image), *map(shown, _joined(found)), *(f"{shown(name)} {p:.2%}" for name, p in found.top)]
        if self._widths is not None:
            self._print(row)
            return
        self._several = () if found.classes is None else ("classes",)
        self._waiting.append(row)
        if len(self._waiting) == _FIRST:
            self._lay_out()

    def _lay_out(self) -> None:
        if not self._waiting:
            return
        names = ["image", *self._several, "class", *("then" for _ in self._waiting[0])]
        rows = [names[: len(self._waiting[0])], *self._waiting]
        self._widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            self._print(row)
        self._waiting = []

    def _print(self, row: list[str]) -> None:
        widths = self._widths or [0] * len(row)
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), file=self._file)


def _joined(found: Prediction) -> list[str]:
    """The classes of an image in one cell, if the model predicts several."""
    return [] if found.classes is None else ["|".join(found.classes)]
