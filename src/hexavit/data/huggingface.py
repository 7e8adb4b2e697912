"""Hugging Face's data sets on disk: Arrow files as ``save_to_disk`` leaves them, Parquet shards as its hub keeps them.

They are read by pyarrow, which reads tables and nothing else: no script that comes with them is run.
"""

from __future__ import annotations

import io
import json
import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

from hexavit.data.source import PARTS, Hints, Source, check_taught
from hexavit.errors import DataError
from hexavit.images.decode import decode_image, shown
from hexavit.images.multichannel import Picture

_DICT, _INFO, _STATE = "dataset_dict.json", "dataset_info.json", "state.json"
_LABELS = ("label", "labels", "fine_label", "class")  # in this order, where there are several
_IMAGES = ("image", "img", "images")
_GROUPS = 4  # groups of rows of Parquet files that are kept


class PackedImages(Source):
    """A folder of ``datasets.save_to_disk``, a folder of Parquet shards with images inside, or one such file.

    Splits are the parts (``validation`` is ``val``; other names than train, validation and test are left out, and so is
    a part whose images have no labels). Names of classes come with the data.

    Raises:
        DataError: when it cannot be read, or has no images or no labels.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.identity = str(self.path.resolve())
        self._files: list[_File] = []
        self._starts: list[int] = []
        names: list[str] = []
        labels: list[Any] = []
        parts: dict[str, tuple[int, ...]] = {}
        classes: tuple[str, ...] | None = None
        for split, files in _splits(self.path).items():
            opened = [_File.of(file) for file in files]
            columns = [each.columns() for each in opened]
            of_split = [label for each in columns for label in each.labels]
            if set(of_split) <= {-1, None}:  # what a published test part has for labels
                continue
            if {-1, None} & set(of_split):
                raise DataError(f"{shown(path)}: some images of {split or 'it'} have no label")
            classes = classes or columns[0].classes
            if part := PARTS.get(split.lower(), ""):
                parts[part] = (*parts.get(part, ()), *range(len(names), len(names) + len(of_split)))
            for each, column in zip(opened, columns, strict=True):
                self._starts.append(len(names))
                names += [f"{split or 'all'}/{len(names) + row:07d}" for row in range(len(column.labels))]
                self._files.append(each)
            labels += of_split
        if not names:
            raise DataError(f"{shown(path)}: none of its images has a label")
        numbered = all(isinstance(label, int) for label in labels)
        if classes is None or not numbered:
            classes = tuple(map(str, sorted(set(labels), key=int if numbered else str)))
            index = {name: number for number, name in enumerate(classes)}
            labels = [index[str(label)] for label in labels]
        if len(set(labels)) < 2 or not set(labels) <= set(range(len(classes))):
            raise DataError(f"{shown(path)}: at least two classes are needed, and labels that are among their names")
        self.names, self.labels, self.classes = tuple(names), tuple(labels), classes
        self.parts = parts if "train" in parts and len(parts) > 1 else {}
        self.hints = Hints(channels=3, augment="rand")
        check_taught(self)

    def load(self, number: int) -> Picture:
        place = bisect_right(self._starts, number) - 1
        content = self._files[place].image(number - self._starts[place])
        if content is None:
            raise DataError(f"{shown(self.names[number])}: the image is not in the file; only its path may be")
        return decode_image(io.BytesIO(content), self.names[number])


def is_packed(path: Path) -> bool:
    """Whether a folder or file is such a data set, by its names; a Parquet file, by its columns."""
    if os.path.isdir(path):
        return (path / _DICT).is_file() or (path / _STATE).is_file() or bool(_shards(path))
    if path.suffix.lower() != ".parquet" or not os.path.isfile(path):
        return False
    try:
        return _image_column(_parquet().read_schema(path)) is not None
    except (DataError, OSError, ValueError):  # what is wrong with it, the table's reader says
        return False


def _splits(path: Path) -> dict[str, list[Path]]:
    """The files of each split; of a set without splits, under an empty name."""
    if path.is_file():
        return {"": [path]}
    if (path / _DICT).is_file():
        splits = _json(path / _DICT).get("splits")
        if not isinstance(splits, list) or not all(isinstance(each, str) for each in splits):
            raise DataError(f"{shown(path / _DICT)}: this file does not name the splits")
        known = [each for each in splits if each.lower() in PARTS]
        return {each: _arrow_files(path / Path(each).name) for each in known}
    if (path / _STATE).is_file():
        return {"": _arrow_files(path)}
    shards = _shards(path)
    homes = {shard.parent.parent if shard.parent.name.lower() in PARTS else shard.parent for shard in shards}
    if len(homes) > 1:
        told = ", ".join(sorted(shown(home.relative_to(path)) for home in homes))
        raise DataError(f"{shown(path)}: this folder holds several data sets; name one of {told}")
    splits = {}
    for shard in shards:
        splits.setdefault(_split_of(shard), []).append(shard)
    if "" in splits and len(splits) > 1:
        raise DataError(f"{shown(path)}: some of these Parquet files are named after a part and some are not")
    return splits


def _shards(path: Path) -> list[Path]:
    """Parquet files in a folder or the two levels below it, hidden ones not."""
    patterns = ("*.parquet", "*/*.parquet", "*/*/*.parquet")
    found = (each for pattern in patterns for each in path.glob(pattern))
    return sorted(each for each in found if not any(part.startswith(".") for part in each.relative_to(path).parts))


def _split_of(shard: Path) -> str:
    for name in (shard.stem.split("-")[0], shard.parent.name):
        if name.lower() in PARTS:
            return name
    return ""


def _arrow_files(folder: Path) -> list[Path]:
    state = _json(folder / _STATE)
    if state.get("_indices_data_files"):
        raise DataError(f"{shown(folder)}: this data set is a choice of rows of another; save it anew")
    files = [folder / Path(str(each.get("filename", ""))).name for each in state.get("_data_files") or []]
    if not files or not all(file.is_file() for file in files):
        raise DataError(f"{shown(folder)}: its {_STATE} names no files, or some that are missing")
    return files


def _json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{shown(path)}: this file cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(read, dict):
        raise DataError(f"{shown(path)}: this file is not what `save_to_disk` writes")
    return read


class _Columns:
    """Labels of all rows, and the names of the classes if the file tells them."""

    def __init__(self, labels: Sequence[Any], classes: tuple[str, ...] | None) -> None:
        self.labels = labels
        self.classes = classes


class _File:
    """One file of rows; opened when it is needed, and anew in every process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: Any = None
        self._lock = Lock()

    @staticmethod
    def of(path: Path) -> _File:
        return _ParquetFile(path) if path.suffix.lower() == ".parquet" else _ArrowFile(path)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        type(self).__init__(self, state["path"])

    def columns(self) -> _Columns:
        """Read the labels.

        Raises:
            DataError: when the file cannot be read, or lacks an image or a label.
        """
        schema = self._guarded(self._schema)
        if _image_column(schema) is None:
            raise DataError(f"{shown(self.path)}: no column holds images; there are {', '.join(schema.names)}")
        features = _features(schema, self.path.parent / _INFO)
        name = _label_column(schema, features)
        if name is None:
            raise DataError(f"{shown(self.path)}: no column holds labels; there are {', '.join(schema.names)}")
        names = features.get(name, {}).get("names")
        labels = self._guarded(lambda: self._labels(name))
        return _Columns(labels, tuple(map(str, names)) if isinstance(names, list) else None)

    def image(self, row: int) -> bytes | None:
        """The bytes of an image's file."""
        with self._lock:
            value = self._guarded(lambda: self._image(row))
        content = value.get("bytes") if isinstance(value, dict) else value
        return content if isinstance(content, bytes) else None

    def _schema(self) -> Any:
        raise NotImplementedError

    def _labels(self, name: str) -> list[Any]:
        raise NotImplementedError

    def _image(self, row: int) -> Any:
        raise NotImplementedError

    def _guarded(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except (
            OSError,
            ValueError,
            TypeError,
            LookupError,
            MemoryError,
            NotImplementedError,
        ) as error:  # pyarrow's are of these
            raise DataError(f"{shown(self.path)}: this file cannot be read ({' '.join(str(error).split())})") from error


class _ArrowFile(_File):
    """Arrow's stream format, mapped into memory: of a row, its own bytes are read and no others."""

    def _table(self) -> Any:
        if self._opened is None:
            pa = _pyarrow()
            table = pa.ipc.open_stream(pa.memory_map(str(self.path))).read_all()
            table.validate(full=True)  # offsets that lie would be followed anywhere
            name = _image_column(table.schema)
            chunks = table.column(name).chunks if name else []
            self._opened = (table, chunks, list(accumulate(map(len, chunks))))
        return self._opened

    def _schema(self) -> Any:
        return self._table()[0].schema

    def _labels(self, name: str) -> list[Any]:
        labels: list[Any] = self._table()[0].column(name).to_pylist()
        return labels

    def _image(self, row: int) -> Any:
        _, chunks, ends = self._table()
        place = bisect_right(ends, row)
        return chunks[place][row - (ends[place - 1] if place else 0)].as_py()


class _ParquetFile(_File):
    """Parquet, of which a group of rows is the least that can be read; the last few groups are kept."""

    def _file(self) -> Any:
        if self._opened is None:
            file = _parquet().ParquetFile(self.path)
            counts = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
            self._opened = (file, list(accumulate(counts)), OrderedDict())
        return self._opened

    def _schema(self) -> Any:
        return self._file()[0].schema_arrow

    def _labels(self, name: str) -> list[Any]:
        labels: list[Any] = self._file()[0].read(columns=[name]).column(0).to_pylist()
        return labels

    def _image(self, row: int) -> Any:
        file, ends, kept = self._file()
        group = bisect_right(ends, row)
        if group not in kept:
            kept[group] = file.read_row_group(group, columns=[_image_column(file.schema_arrow)]).column(0)
            if len(kept) > _GROUPS:
                kept.popitem(last=False)
        kept.move_to_end(group)
        return kept[group][row - (ends[group - 1] if group else 0)].as_py()


def _features(schema: Any, info: Path) -> dict[str, dict[str, Any]]:
    """What `datasets` wrote of each column, in the file itself or beside it."""
    try:
        written = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = written.get("info", {}).get("features")
        if features is None and info.is_file():
            features = _json(info).get("features")
        return {name: each for name, each in (features or {}).items() if isinstance(each, dict)}
    except (AttributeError, ValueError) as error:
        raise DataError(f"{shown(info.parent)}: what it says of its columns cannot be read") from error


def _image_column(schema: Any) -> str | None:
    """The column that holds the files' bytes, bare or with their paths."""
    fitting = [each.name for each in schema if _holds_bytes(each.type)]
    return next((name for name in _IMAGES if name in fitting), fitting[0] if len(fitting) == 1 else None)


def _holds_bytes(kind: Any) -> bool:
    types = _pyarrow().types
    if types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _holds_bytes(kind.field(place).type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _label_column(schema: Any, features: Mapping[str, Mapping[str, Any]]) -> str | None:
    named = [name for name, each in features.items() if each.get("_type") == "ClassLabel" and name in schema.names]
    if len(named) == 1:
        return named[0]
    return next((name for name in _LABELS if name in (named or schema.names)), None)


def _pyarrow() -> Any:
    try:
        import_module("pyarrow.ipc")
        return import_module("pyarrow")
    except ImportError as error:
        raise DataError("reading this data needs pyarrow: pip install 'hexavit[parquet]'") from error


def _parquet() -> Any:
    _pyarrow()
    return import_module("pyarrow.parquet")
