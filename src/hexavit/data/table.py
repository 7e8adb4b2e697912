"""A table of image paths and labels, as CSV or Parquet."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from hexavit.data.source import FileSource, Hints, part_named
from hexavit.data.statistics import count_channels
from hexavit.errors import DataError
from hexavit.images.decode import printable

_PATH, _LABEL, _PART = ("path", "file", "filename", "image"), ("label", "class"), ("split", "part")
_LABELS = ("labels", "classes")  # several in a row
_YES_NO = {**dict.fromkeys(("1", "1.0", "true", "yes"), True), **dict.fromkeys(("0", "0.0", "false", "no"), False)}
_SEPARATOR = re.compile(r"[|;]")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)

SUFFIXES = frozenset({".csv", ".parquet"})


class ImageTable(FileSource):
    """One row for each image: its ``path``, its ``label`` and, optionally, its ``split``.

    The columns may also be called ``file``, ``filename`` or ``image``; ``class``; ``part``. Paths start at the table's
    folder unless they are absolute. A split is ``train``, ``val`` or ``test``.

    Images may have several classes or none (:attr:`label_sets`): a column ``labels`` (or ``classes``) holds their
    names, separated by ``|`` or ``;``; or, without such a column, every other column is a class and holds 1 or 0.

    Raises:
        DataError: if the table cannot be read, lacks a column or a value, names an image twice, or holds numbers to be
            predicted (regression).
    """

    def __init__(self, path: str | Path) -> None:
        table = Path(path)
        self.root = table.parent
        self.identity = str(table.resolve())
        columns = _read_parquet(table) if table.suffix.lower() == ".parquet" else _read_csv(table)
        self.names = tuple(_column(table, columns, _PATH) or ())
        split = _column(table, columns, _PART, required=False)
        sets, classes = _label_sets(table, columns)
        if sets is None:
            self._set_labels(_labels(table, columns))
        else:
            self._set_label_sets(sets, classes)
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
    values = [_text(value) for value in columns[found]]
    if "" in values:
        raise DataError(f"{printable(path)}: the column {found!r} is empty in row {values.index('') + 2}")
    return values


def _labels(path: Path, columns: Mapping[str, Sequence[Any]]) -> list[str]:
    """The class of each row."""
    labels = _column(path, columns, _LABEL) or []
    numbers = [float(label) for label in labels if _NUMBER.fullmatch(label)]
    fractions = [label for label in labels if _NUMBER.fullmatch(label) and float(label) % 1]
    if fractions and len(numbers) == len(labels) and len(set(labels)) > len(labels) / 2:
        raise _no_regression(path, "label", fractions[0])
    return labels


def _label_sets(
    path: Path, columns: Mapping[str, Sequence[Any]]
) -> tuple[list[tuple[str, ...]] | None, Sequence[str] | None]:
    """The classes of each row, and all classes if the columns name them; None where a row has one class."""
    joined = next((name for name in _LABELS if name in columns), None)
    if any(name in columns for name in _LABEL):
        return None, None
    if joined is not None:
        cells = (
            value if isinstance(value, list | tuple) else _SEPARATOR.split(_text(value)) for value in columns[joined]
        )
        return [tuple(dict.fromkeys(filter(None, map(_text, cell)))) for cell in cells], None
    classes = [name for name in columns if name not in {*_PATH, *_PART}]
    if len(classes) < 2:
        return None, None
    held = {
        name: [_yes_or_no(path, name, row, value) for row, value in enumerate(columns[name], 2)] for name in classes
    }
    rows = range(len(columns[classes[0]]))
    return [tuple(name for name in classes if held[name][row]) for row in rows], classes


def _yes_or_no(path: Path, column: str, row: int, value: Any) -> bool:
    text = _text(value)
    if text.lower() in _YES_NO:
        return _YES_NO[text.lower()]
    if _NUMBER.fullmatch(text):
        raise _no_regression(path, column, text)
    raise DataError(
        f"{printable(path)}: a table needs a column 'label' or 'labels', or columns of classes that hold 1 or 0; the "
        f"column {column!r} holds {text!r} in row {row}"
    )


def _no_regression(path: Path, column: str, value: str) -> DataError:
    return DataError(
        f"{printable(path)}: the column {column!r} holds numbers such as {value}: regression is not supported; hexavit "
        "predicts classes, as names in a column 'label' or 'labels', or columns that hold 1 or 0"
    )


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


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
