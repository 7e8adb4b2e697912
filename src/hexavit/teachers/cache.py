"""Outputs of a teacher on disk, by the content of what it saw: an SQLite file that several runs may share."""

from __future__ import annotations

import hashlib
import re
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from hexavit.errors import RunError
from hexavit.images.preprocess import InputSpec

_AT_ONCE = 500  # keys in one query; SQLite takes 999
_WAIT = 60.0  # seconds that a run waits while another one writes


class OutputCache:
    """Logits by the view of an image: the pixels that the student sees, after cropping, augmentation and mixing.

    A batch of which any image is missing is computed whole, so that each stored row is what a run without the cache
    computes. The rows of a batch are written in one transaction: a killed process leaves all of them or none. A damaged
    row is computed again.

    Args:
        folder: where `outputs.sqlite` is, or is made; on a local disk, as SQLite locks it.
        teacher: from :func:`fingerprint`; rows of other teachers are not used.
        width: K.

    Raises:
        RunError: the folder cannot be written, or the file is not such a cache.
    """

    def __init__(self, folder: str | Path, teacher: str, width: int) -> None:
        self.path, self.teacher, self.width = Path(folder) / "outputs.sqlite", teacher.encode(), width
        self._opened: sqlite3.Connection | None = None
        self._connection().close()  # opened again when it is used: data workers, which are forks, must not inherit it
        self._opened = None

    def get(self, images: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """The logits (B, K) of images (B, C, H, W): read, or computed and stored."""
        device = images.device
        precision = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32
        keys = self._keys(images, str(precision))
        try:
            known = self._read(keys)
            if all(key in known for key in keys):
                return torch.stack([known[key] for key in keys]).to(device)
            computed = compute(images)
            rows = {key: row for key, row in zip(keys, computed.cpu(), strict=True) if key not in known}
            self._write(rows)
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        return torch.stack([known.get(key, row) for key, row in zip(keys, computed.cpu(), strict=True)]).to(device)

    def _keys(self, images: Tensor, precision: str) -> list[bytes]:
        """Of each image 16 bytes: a checksum of the teacher, the precision, and the pixels."""
        views = images.detach().cpu().contiguous()
        start = hashlib.blake2b(f"{precision} {views.dtype} {tuple(views.shape[1:])}".encode(), digest_size=16)
        start.update(self.teacher)
        keys = []
        for view in views:
            checksum = start.copy()
            checksum.update(_bytes(view))
            keys.append(checksum.digest())
        return keys

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, Tensor]:
        found: dict[bytes, Tensor] = {}
        for begin in range(0, len(keys), _AT_ONCE):
            some = keys[begin : begin + _AT_ONCE]
            asked = f"SELECT key, row, crc FROM outputs WHERE key IN ({','.join('?' * len(some))})"
            for key, row, crc in self._connection().execute(asked, some):
                if len(row) == 4 * self.width and zlib.crc32(row) == crc:
                    found[key] = torch.frombuffer(bytearray(row), dtype=torch.float32)
        return found

    def _write(self, rows: dict[bytes, Tensor]) -> None:
        values = [(key, raw := _bytes(row.float()), zlib.crc32(raw)) for key, row in rows.items()]
        connection = self._connection()
        with connection:  # one transaction
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR REPLACE INTO outputs VALUES (?, ?, ?)", values)

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                opened = sqlite3.connect(self.path, timeout=_WAIT, isolation_level=None)
                opened.execute("PRAGMA journal_mode=WAL")
                opened.execute("PRAGMA synchronous=NORMAL")  # consistent after a power cut; may lose the last rows
                table = "outputs (key BLOB PRIMARY KEY, row BLOB NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID"
                opened.execute(f"CREATE TABLE IF NOT EXISTS {table}")
            except (OSError, sqlite3.Error) as error:
                raise self._unusable(error) from error
            self._opened = opened
        return self._opened

    def _unusable(self, error: Exception) -> RunError:
        return RunError(
            f"{self.path}: this cache of a teacher's outputs cannot be used ({error}); choose another folder"
        )


def fingerprint(model: nn.Module, columns: Sequence[int], *specs: InputSpec) -> str:
    """A checksum of a model's layers and weights, the classes that are read, and the preprocessing."""
    checksum = hashlib.blake2b(re.sub(r"0x[0-9a-f]+", "", repr(model)).encode(), digest_size=16)
    if (architecture := getattr(model, "architecture", None)) is not None:
        checksum.update(architecture.to_json().encode())
    for name, value in model.state_dict().items():
        checksum.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        checksum.update(_bytes(value))
    checksum.update(f"{list(columns)} {[spec.as_dict() for spec in specs]}".encode())
    return checksum.hexdigest()


def _bytes(values: Tensor) -> bytes:
    return values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
