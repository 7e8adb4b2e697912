"""A table of paths and labels, as CSV or Parquet."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from hexavit.data.source import PARTS, Hints, Source, check_all_classes_in_train
from hexavit.data.statistics import count_channels
from hexavit.errors import DataError
from hexavit.images.decode import printable, read_image
from hexavit.images.multichannel import Picture

_PATH, _LABEL, _PART = ("path", "file", "filename", "image"), ("label", "class"), ("split", "part")

SUFFIXES = frozenset({".csv", ".parquet"})


class ImageTable(Source):
    """One row an image: its ``path`` (below the table's folder, or absolute), its ``label`` and, if wanted, ``split``.

    The columns may have other names: ``file``, ``filename`` or ``image``; ``class``; ``part``. A split is ``train``,
    ``val`` or ``test``.

    Raises:
        DataError: when the table cannot be read, lacks a column or a value, or names an image twice.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.identity = str(self.path.resolve())
        columns = _columns(self.path)
        self.names = tuple(_column(self.path, columns, _PATH) or ())
        labels = _column(self.path, columns, _LABEL) or []
        split = _column(self.path, columns, _PART, needed=False)
        self.classes = tuple(sorted(set(labels)))
        if len(self.classes) < 2:
            raise DataError(f"{printable(path)}: at least two classes are needed, and there are {len(self.classes)}")
        index = {name: label for label, name in enumerate(self.classes)}
        self.labels = tuple(index[label] for label in labels)
        seen: set[str] = set()
        for name in self.names:
            if name in seen:
                raise DataError(f"{printable(path)}: the image {name!r} stands in two rows")
            seen.add(name)
        self.hints = Hints(channels=count_channels(self.path.parent / name for name in self.names), augment="rand")
        self.parts = {} if split is None else _parts(self.path, split)
        check_all_classes_in_train(self)

    def load(self, number: int) -> Picture:
        return read_image(self.path.parent / self.names[number])


def _columns(path: Path) -> Mapping[str, Sequence[Any]]:
    return _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)


def _csv(path: Path) -> dict[str, list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(reader)
            names = list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{printable(path)}: this table cannot be read ({error})") from error
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise DataError(f"{printable(path)}: row {number} has not as many values as the first row has names")
    return {name: [row[name] for row in rows] for name in names}


def _parquet(path: Path) -> dict[str, list[Any]]:
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError as error:
        raise DataError(f"{printable(path)}: reading Parquet needs pyarrow: pip install 'hexavit[parquet]'") from error
    try:
        columns: dict[str, list[Any]] = parquet.read_table(path).to_pydict()
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these kinds
        raise DataError(f"{printable(path)}: this table cannot be read ({' '.join(str(error).split())})") from error
    return columns


def _column(
    path: Path, columns: Mapping[str, Sequence[Any]], names: Sequence[str], *, needed: bool = True
) -> list[str] | None:
    """The values of the first column that has one of the names, as text; every row must have one."""
    found = next((name for name in names if name in columns), None)
    if found is None:
        if needed:
            there = ", ".join(columns) or "nothing"
            raise DataError(
                f"{printable(path)}: a table needs a column {' or '.join(map(repr, names))}, and has {there}"
            )
        return None
    values = ["" if value is None else str(value).strip() for value in columns[found]]
    if "" in values:
        raise DataError(f"{printable(path)}: the column {found!r} is empty in row {values.index('') + 2}")
    return values


def _parts(path: Path, split: Sequence[str]) -> dict[str, tuple[int, ...]]:
    parts: dict[str, list[int]] = {}
    for number, value in enumerate(split):
        if value.lower() not in PARTS:
            raise DataError(f"{printable(path)}: row {number + 2} has the split {value!r}, not train, val or test")
        parts.setdefault(PARTS[value.lower()], []).append(number)
    if "train" not in parts:
        raise DataError(f"{printable(path)}: no row has the split 'train'")
    # All of it in train is no split at all, and one is made.
    return {part: tuple(numbers) for part, numbers in parts.items()} if len(parts) > 1 else {}
