"""A table of image paths and labels, as CSV or Parquet."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from hexavit.data.source import FileSource, Hints, part_named
from hexavit.data.statistics import count_channels
from hexavit.errors import DataError
from hexavit.images.decode import printable

_PATH, _LABEL, _PART = ("path", "file", "filename", "image"), ("label", "class"), ("split", "part")

SUFFIXES = frozenset({".csv", ".parquet"})


class ImageTable(FileSource):
    """One row for each image: its ``path``, its ``label`` and, optionally, its ``split``.

    The columns may also be called ``file``, ``filename`` or ``image``; ``class``; ``part``. Paths start at the table's
    folder unless they are absolute. A split is ``train``, ``val`` or ``test``.

    Raises:
        DataError: if the table cannot be read, lacks a column or a value, or names an image twice.
    """

    def __init__(self, path: str | Path) -> None:
        table = Path(path)
        self.root = table.parent
        self.identity = str(table.resolve())
        columns = _read_parquet(table) if table.suffix.lower() == ".parquet" else _read_csv(table)
        self.names = tuple(_column(table, columns, _PATH) or ())
        self._set_labels(_column(table, columns, _LABEL) or [])
        split = _column(table, columns, _PART, required=False)
        seen: set[str] = set()
        for name in self.names:
            if name in seen:
                raise DataError(f"{printable(path)}: the image {name!r} is in two rows")
            seen.add(name)
        self.hints = Hints(channels=count_channels(self.root / name for name in self.names), augment="rand")
        self._set_parts({} if split is None else _parts(table, split))


def _read_csv(path: Path) -> dict[str, list[str]]:
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


def _read_parquet(path: Path) -> dict[str, list[Any]]:
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError as error:
        raise DataError(f"{printable(path)}: reading Parquet needs pyarrow: pip install 'hexavit[parquet]'") from error
    try:
        columns: dict[str, list[Any]] = parquet.read_table(path).to_pydict()
    except (OSError, ValueError) as error:  # pyarrow's errors derive from these
        raise DataError(f"{printable(path)}: this table cannot be read ({' '.join(str(error).split())})") from error
    return columns


def _column(
    path: Path, columns: Mapping[str, Sequence[Any]], names: Sequence[str], *, required: bool = True
) -> list[str] | None:
    """The values of the first column that has one of the names, as text; every row must have one."""
    found = next((name for name in names if name in columns), None)
    if found is None:
        if required:
            present = ", ".join(columns) or "nothing"
            wanted = " or ".join(map(repr, names))
            raise DataError(f"{printable(path)}: a table needs a column {wanted}, and has {present}")
        return None
    values = ["" if value is None else str(value).strip() for value in columns[found]]
    if "" in values:
        raise DataError(f"{printable(path)}: the column {found!r} is empty in row {values.index('') + 2}")
    return values


def _parts(path: Path, split: Sequence[str]) -> dict[str, list[int]]:
    members: dict[str, list[int]] = {}
    for number, value in enumerate(split):
        part = part_named(value)
        if part is None:
            raise DataError(f"{printable(path)}: row {number + 2} has the split {value!r}, not train, val or test")
        members.setdefault(part, []).append(number)
    if "train" not in members:
        raise DataError(f"{printable(path)}: no row has the split 'train'")
    return members
