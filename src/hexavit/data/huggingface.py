"""Data sets of Hugging Face on disk, read with its ``datasets`` library: ``save_to_disk`` folders and Parquet files.

Only local files are opened, and ``datasets`` runs no script that comes with a data set. ``Dataset.from_parquet`` is
used instead of ``load_dataset``, which reports each call to a server.
"""

from __future__ import annotations

import glob
import json
import logging
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from hexavit.data.source import Hints, PackedSource, part_named
from hexavit.errors import DataError
from hexavit.images.decode import printable

_DICT, _STATE = "dataset_dict.json", "state.json"
_LABELS = ("label", "labels", "fine_label", "class")  # in order of preference
_IMAGES = ("image", "img", "images")

T = TypeVar("T")


class HuggingFaceImages(PackedSource):
    """A folder written by ``datasets.save_to_disk``, a folder of Parquet files with embedded images, or one such file.

    Splits become parts (``validation`` is ``val``). Ignored are splits with other names than train, validation and
    test, and splits without labels. Class names come from the data set's features.

    Args:
        path: the folder or file. Parquet is converted to Arrow once, in the cache of ``datasets``
            (``HF_DATASETS_CACHE``).

    Raises:
        DataError: if ``datasets`` is not installed, the files cannot be read, or there are no images or labels.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.identity = str(self.path.resolve())
        self._tables: list[Any] = []  # one `datasets.Dataset` with the image column alone for each split
        self._starts: list[int] = []  # number of the first image of each
        names: list[str] = []
        labels: list[Any] = []
        members: dict[str, list[int]] = {}
        classes: tuple[str, ...] | None = None
        for split, table in _guarded(self.path, lambda: _open(self.path)).items():
            image, label, of_split = _columns(self.path, table)
            if set(of_split) <= {-1, None}:  # published test splits often have no labels
                continue
            if {-1, None} & set(of_split):
                raise DataError(f"{printable(path)}: some images of {split or 'this data set'} have no label")
            class_names = getattr(table.features[label], "names", None)
            if class_names and classes is None:
                classes = tuple(map(str, class_names))
            numbers = range(len(names), len(names) + len(of_split))
            members.setdefault(part_named(split) or "", []).extend(numbers)
            names += [f"{split or 'all'}/{number:07d}" for number in numbers]
            labels += of_split
            self._starts.append(numbers.start)
            self._tables.append(table.select_columns([image]).with_format("arrow"))
        if not names:
            raise DataError(f"{printable(path)}: none of its images has a label")
        self.names = tuple(names)
        self.hints = Hints(channels=3, augment="rand")
        if classes is not None:
            if not set(labels) <= set(range(len(classes))):
                raise DataError(f"{printable(path)}: a label is not below the number of class names, {len(classes)}")
            labels = [classes[label] for label in labels]
        self._set_labels(list(map(str, labels)), classes)
        self._set_parts(members)

    def encoded(self, number: int) -> bytes:
        place = bisect_right(self._starts, number) - 1
        row = number - self._starts[place]
        value = _guarded(self.path, lambda: self._tables[place][row].column(0)[0].as_py())
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise DataError(f"{printable(self.names[number])}: the data set holds no image here; at most its path")
        return content


def is_huggingface(path: Path) -> bool:
    """Whether a path holds such a data set: a folder by its file names, a Parquet file by its columns."""
    if os.path.isdir(path):
        return (path / _DICT).is_file() or (path / _STATE).is_file() or bool(_parquet_files(path))
    if path.suffix.lower() != ".parquet" or not os.path.isfile(path):
        return False
    try:
        return _image_column(import_module("pyarrow.parquet").read_schema(path)) is not None
    except (ImportError, OSError, ValueError):  # `ImageTable` reports the reason
        return False


def _open(path: Path) -> dict[str, Any]:
    """The `datasets.Dataset` of each split; of a data set without splits, under an empty name."""
    datasets = _datasets()
    if (path / _DICT).is_file() or (path / _STATE).is_file():
        for state in path.glob(f"**/{_STATE}"):
            if json.loads(state.read_text(encoding="utf-8")).get("_indices_data_files"):
                # datasets before 2.0 wrote these; later versions ignore them and would return other rows
                raise DataError(f"{printable(state)}: this data set is a selection of rows; save it again")
        with _errors_only():
            loaded = datasets.load_from_disk(os.path.realpath(path))
        tables = {"": loaded} if isinstance(loaded, datasets.Dataset) else dict(loaded)
        tables = {split: table for split, table in tables.items() if not split or part_named(split)}
        for table in tables.values():
            table.data.validate(full=True)  # wrong offsets would be followed to any address
        return tables
    with _errors_only():
        return {
            split: datasets.Dataset.from_parquet([glob.escape(str(file.resolve())) for file in files])
            for split, files in _parquet_splits(path).items()
        }


def _parquet_splits(path: Path) -> dict[str, list[Path]]:
    if path.is_file():
        return {"": [path]}
    files = _parquet_files(path)
    sets = {file.parent.parent if part_named(file.parent.name) else file.parent for file in files}
    if len(sets) > 1:
        names = ", ".join(sorted(printable(each.relative_to(path)) for each in sets))
        raise DataError(f"{printable(path)}: this folder holds several data sets; name one of {names}")
    splits: dict[str, list[Path]] = {}
    for file in files:
        splits.setdefault(_split_of(file), []).append(file)
    if "" in splits and len(splits) > 1:
        raise DataError(f"{printable(path)}: some of these Parquet files are named after a split and some are not")
    return splits


def _parquet_files(path: Path) -> list[Path]:
    """Parquet files in a folder or the two levels below it, without hidden ones."""
    patterns = ("*.parquet", "*/*.parquet", "*/*/*.parquet")
    found = (each for pattern in patterns for each in path.glob(pattern))
    return sorted(each for each in found if not any(part.startswith(".") for part in each.relative_to(path).parts))


def _split_of(file: Path) -> str:
    for name in (file.stem.split("-")[0], file.parent.name):
        if part_named(name):
            return name
    return ""


def _columns(path: Path, table: Any) -> tuple[str, str, list[Any]]:
    """Names of the image and the label column, and the labels."""
    schema = table.features.arrow_schema
    image, label = _image_column(schema), _label_column(table.features)
    for column, kind in ((image, "images"), (label, "labels")):
        if column is None:
            raise DataError(f"{printable(path)}: no column holds {kind}; there are {', '.join(schema.names)}")
    assert image is not None
    assert label is not None
    labels = _guarded(path, lambda: table.with_format("arrow")[:].column(label).to_pylist())
    return image, label, labels


def _image_column(schema: Any) -> str | None:
    """The column with the encoded images: bytes, or a struct of bytes and path."""
    fitting = [each.name for each in schema if _holds_bytes(each.type)]
    return next((name for name in _IMAGES if name in fitting), fitting[0] if len(fitting) == 1 else None)


def _holds_bytes(kind: Any) -> bool:
    types = import_module("pyarrow").types
    if types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _holds_bytes(kind.field(place).type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _label_column(features: Any) -> str | None:
    named = [str(name) for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    if len(named) == 1:
        return named[0]
    return next((name for name in _LABELS if name in (named or list(features))), None)


def _guarded(path: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except DataError:
        raise
    except Exception as error:  # datasets and pyarrow raise many kinds for damaged files
        cause = error.__cause__ or error  # `DatasetGenerationError` hides the reason in its cause
        raise DataError(f"{printable(path)}: this data set cannot be read ({' '.join(str(cause).split())})") from error


@contextmanager
def _errors_only() -> Iterator[None]:
    """Without the log records of ``datasets``, whose errors are raised as well."""
    logger = logging.getLogger("datasets")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _datasets() -> Any:
    try:
        return import_module("datasets")
    except ImportError as error:
        raise DataError("this data set needs the library datasets: pip install 'hexavit[datasets]'") from error
