"""Files of feature vectors, written row by row."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hexavit.errors import HexavitError
from hexavit.images.decode import shown

SUFFIXES = (".npy", ".parquet")
_ROWS = 1024  # rows of a group in a Parquet file
_DIGITS = 20  # digits of the number of rows for which the header of a .npy reserves space


def check_features_file(path: Path) -> None:
    """Check that features can be written to a file of this name.

    Raises:
        HexavitError: the suffix is not supported, or the package for it is missing.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise HexavitError(f"{shown(path)}: features are written as {' or '.join(SUFFIXES)}, not as {path.suffix!r}")
    if path.suffix.lower() == ".parquet":
        _pyarrow()


class FeatureFile:
    """A file of feature vectors, open for writing; a context manager.

    ``.npy`` holds a float32 array (N, D); the paths of its rows go to ``names``, a text file with one path per line.
    ``.parquet`` has the columns ``path`` and ``features``.

    Args:
        place: file to write, of any name.
        suffix: ``.npy`` or ``.parquet``.
        names: file for the paths of a ``.npy``.
    """

    def __init__(self, place: Path, suffix: str, names: Path | None = None) -> None:
        kind = _Npy if suffix.lower() == ".npy" else _Parquet
        self._writer = kind(place)
        self._names = names.open("w", encoding="utf-8", errors="backslashreplace") if names else None

    def write(self, path: Path, vector: NDArray[np.float32]) -> None:
        """Add the vector (D,) of an image."""
        self._writer.write(path, vector)
        if self._names is not None:
            print(shown(path), file=self._names)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._writer.close()
        if self._names is not None:
            self._names.close()


class _Npy:
    """The header in front of the rows holds their number, so it is written again at the end."""

    def __init__(self, place: Path) -> None:
        self._file = place.open("wb")
        self._count, self._width = 0, 0

    def write(self, _: Path, vector: NDArray[np.float32]) -> None:
        if not self._count:
            self._width = len(vector)
            self._head()
        self._file.write(vector.astype("<f4").tobytes())
        self._count += 1

    def close(self) -> None:
        self._file.seek(0)
        self._head()
        self._file.close()

    def _head(self) -> None:
        shape = f"({self._count}, {self._width}), "
        text = "{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + "}"
        length = -(-(10 + len("{'descr': '<f4', 'fortran_order': False, 'shape': (, ), }") + 2 * _DIGITS) // 64) * 64
        self._file.write(b"\x93NUMPY\x01\x00" + (length - 10).to_bytes(2, "little"))
        self._file.write(text.ljust(length - 11).encode() + b"\n")


class _Parquet:
    def __init__(self, place: Path) -> None:
        self._arrow, self._parquet = _pyarrow()
        self._place = place
        self._open: Any = None
        self._paths: list[str] = []
        self._vectors: list[NDArray[np.float32]] = []

    def write(self, path: Path, vector: NDArray[np.float32]) -> None:
        self._paths.append(shown(path))
        self._vectors.append(vector)
        if len(self._paths) == _ROWS:
            self._flush()

    def close(self) -> None:
        if self._paths or self._open is None:
            self._flush()
        self._open.close()

    def _flush(self) -> None:
        pa = self._arrow
        width = len(self._vectors[0]) if self._vectors else 0
        values = np.concatenate(self._vectors) if self._vectors else np.zeros(0, np.float32)
        # Plain lists instead of fixed-size ones: every Parquet reader supports them.
        offsets = pa.array(np.arange(len(self._paths) + 1, dtype=np.int32) * width)
        vectors = pa.ListArray.from_arrays(offsets, pa.array(values))
        table = pa.table({"path": pa.array(self._paths, pa.string()), "features": vectors})
        if self._open is None:
            self._open = self._parquet.ParquetWriter(self._place, table.schema)
        self._open.write_table(table)
        self._paths, self._vectors = [], []


def _pyarrow() -> tuple[Any, Any]:
    importing: Callable[[str], Any] = import_module
    try:
        return importing("pyarrow"), importing("pyarrow.parquet")
    except ImportError as error:
        raise HexavitError("writing Parquet needs pyarrow: pip install 'hexavit[parquet]'") from error
