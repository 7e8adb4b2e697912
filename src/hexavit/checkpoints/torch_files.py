"""Files that `torch.save` wrote: a zip archive since PyTorch 1.6, before it several pickles and the raw numbers.

`torch.load(weights_only=True)` rejects files that hold anything beside weights, and creates a view of 10^12 numbers
over 16 bytes if a file describes one. Here every description is checked against the file first.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from hexavit.checkpoints.lazy_tensor import Contents, Stored
from hexavit.checkpoints.unpickler import PickleMachine, StorageRef, TensorRef
from hexavit.errors import CheckpointError

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001

ReadStorage = Callable[[StorageRef], bytes]


def read_zip(path: Path) -> Contents:
    """An archive of `torch.save`; the tensors' numbers are read when they are wanted.

    Raises:
        CheckpointError: compressed or overlapping records, a TorchScript program, a damaged pickle, a big-endian file.
    """
    with zipfile.ZipFile(path) as archive:
        records = {info.filename: info for info in archive.infolist()}
    if any("code" in name.split("/")[:2] for name in records):
        raise CheckpointError("it is a TorchScript archive: open it with torch.jit.load and save its state_dict()")
    if any(info.compress_type != zipfile.ZIP_STORED for info in records.values()):
        raise CheckpointError("it is compressed, which PyTorch's files never are: unpack it, and save it again")
    if sum(info.file_size for info in records.values()) > path.stat().st_size:
        raise CheckpointError("its records claim more bytes than the file has")
    pickles = [name for name in records if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CheckpointError("it is a zip archive without PyTorch's data.pkl")
    prefix = pickles[0].removesuffix("data.pkl")
    order = records.get(f"{prefix}byteorder")
    if order is not None and _record(path, order).strip() != b"little":
        raise CheckpointError("its numbers are big-endian, which is not read here")

    def read(storage: StorageRef) -> bytes:
        info, size = records.get(f"{prefix}data/{storage.key}"), storage.numel * _itemsize(storage)
        if info is None or info.file_size != size:
            held = 0 if info is None else info.file_size
            raise CheckpointError(f"storage {storage.key!r} claims {size} bytes, and the file has {held} of it")
        return _record(path, info)

    machine = PickleMachine(partial(_lazy, _cached(read)))
    tree = machine.load(io.BytesIO(_record(path, records[pickles[0]])))
    return Contents(str(path), "PyTorch", tree, dict(machine.foreign))


def read_legacy(path: Path) -> Contents:
    """A file of `torch.save` from before 1.6, or written with `_use_new_zipfile_serialization=False`.

    Raises:
        CheckpointError: a damaged one, or a pickle that `torch.save` did not write.
    """
    places: dict[str, int] = {}

    def read(storage: StorageRef) -> bytes:
        with path.open("rb") as opened:
            opened.seek(places[storage.key])
            return opened.read(storage.numel * _itemsize(storage))

    machine = PickleMachine(partial(_lazy, _cached(read)))
    with path.open("rb") as file:
        if machine.load(file) != _MAGIC or machine.load(file) != _PROTOCOL:
            raise CheckpointError("it is a pickle that torch.save did not write")
        machine.load(file)  # the sizes of numbers where it was written
        tree, keys = machine.load(file), machine.load(file)
        _place(file, keys, machine.storages, places, path.stat().st_size)
    return Contents(str(path), "PyTorch before 1.6", tree, dict(machine.foreign))


def _place(file: IO[bytes], keys: Any, storages: dict[str, StorageRef], places: dict[str, int], size: int) -> None:
    """Where each storage's numbers begin: behind the pickles, each after its length, in the order of `keys`."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != set(storages):
        raise CheckpointError("its list of storages does not fit its tensors")
    at = file.tell()
    for key in keys:
        file.seek(at)
        head = file.read(8)
        length = struct.unpack("<q", head)[0] if len(head) == 8 else -1
        end = at + 8 + length * _itemsize(storages[key])
        if length != storages[key].numel or end > size:
            raise CheckpointError(f"storage {key!r} claims {storages[key].numel} numbers, which the file does not have")
        places[key], at = at + 8, end


def _record(path: Path, info: zipfile.ZipInfo) -> bytes:
    """A stored record's bytes, held against its checksum."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        head = file.read(30)
        if len(head) < 30 or head[:4] != b"PK\x03\x04":
            raise CheckpointError(f"record {info.filename!r} is not where the archive says")
        file.seek(sum(struct.unpack("<HH", head[26:30])), io.SEEK_CUR)
        data = file.read(info.file_size)
    if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
        raise CheckpointError(f"record {info.filename!r} is damaged: its checksum is another")
    return data


def _itemsize(storage: StorageRef) -> int:
    return storage.dtype.itemsize if storage.dtype else 1


def _cached(read: ReadStorage) -> Callable[[StorageRef, torch.dtype], Tensor]:
    """Storages that several tensors share are read once, and stay shared."""
    held: dict[tuple[str, torch.dtype], Tensor] = {}

    def get(storage: StorageRef, dtype: torch.dtype) -> Tensor:
        key = storage.key, dtype
        if key not in held:
            data = bytearray(read(storage))
            held[key] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        return held[key]

    return get


def _lazy(get: Callable[[StorageRef, torch.dtype], Tensor], ref: TensorRef) -> Stored:
    return Stored(
        ref.shape, ref.dtype, lambda: get(ref.storage, ref.dtype).as_strided(ref.shape, ref.stride, ref.offset)
    )
