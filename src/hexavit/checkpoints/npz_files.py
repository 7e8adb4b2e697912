"""NumPy's `.npz`, in which ViT's authors publish: arrays without pickles, each held against its claimed size."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hexavit.checkpoints.lazy_tensor import Contents, Shape, Stored
from hexavit.errors import CheckpointError

_SLACK = 64 << 20  # bytes: zeros, as in a fresh head, pack to nothing
_RATIO = 8  # weights hardly pack


def read_npz(path: Path) -> Contents:
    """An archive of `np.savez` or `np.savez_compressed`; bfloat16, which NumPy lacks, as JAX writes it.

    Raises:
        CheckpointError: pickled objects, a record that unpacks to much more than the file, a header that lies.
    """
    tree: dict[str, Stored] = {}
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        if sum(info.file_size for info in records) > _RATIO * path.stat().st_size + _SLACK:
            raise CheckpointError("its records claim far more bytes than such a file can hold")
        for info in records:
            if not info.filename.endswith(".npy"):
                raise CheckpointError(f"its record {info.filename!r} is no array")
            key = info.filename.removesuffix(".npy")
            shape, dtype = _header(archive, info)
            tree[key] = Stored(shape, dtype, partial(_read, path, info.filename))
    return Contents(str(path), "NumPy", tree)


def _header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[Shape, torch.dtype]:
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        readers: dict[tuple[int, int], Callable[..., tuple[tuple[int, ...], bool, np.dtype[np.generic]]]] = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise CheckpointError(f"{info.filename} is of a version of NumPy's format that weights do not need")
        shape, _, dtype = readers[version](file)
        left = info.file_size - file.tell()
    name = "bfloat16" if dtype == np.dtype("V2") else dtype.name
    found = getattr(torch, name, None)
    if dtype.hasobject or dtype.kind not in "fiubV" or not isinstance(found, torch.dtype):
        raise CheckpointError(f"{info.filename} holds {dtype}, and weights are plain numbers")
    if any(n < 0 for n in shape) or prod(shape) * dtype.itemsize != left:
        raise CheckpointError(f"{info.filename} claims the shape {shape} of {dtype} and has {left} bytes")
    return shape, found


def _read(path: Path, name: str) -> Tensor:
    with zipfile.ZipFile(path) as archive, archive.open(name) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
    array = np.ascontiguousarray(array).reshape(array.shape)
    if array.dtype == np.dtype("V2"):
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
