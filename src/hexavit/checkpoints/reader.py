"""Opening a file of weights, known by its first bytes and never trusted: nothing in it can run."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from hexavit.architecture import Architecture
from hexavit.checkpoints.folders import class_names, preprocessing
from hexavit.checkpoints.lazy_tensor import Contents, Stored, listed
from hexavit.errors import CheckpointError, HexavitError
from hexavit.run_paths import RunPaths

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE = ("model.safetensors", "pytorch_model.bin")
_MAX_JSON = 64 << 20


def read_contents(source: str | Path | Mapping[str, Any]) -> Contents:
    """What a checkpoint holds.

    Args:
        source: a file (safetensors, `torch.save`'s of any age, `.npz`), a folder as transformers writes it (one file,
            or shards with their index, and `config.json`), a run folder (its best weights),
            or a mapping in memory from keys to tensors.

    Raises:
        CheckpointError: anything else, or a file that is damaged or lies.
    """
    if isinstance(source, Mapping):
        return Contents("the given mapping", "memory", _in_memory(source))
    path = Path(source)
    try:
        return _folder(path) if path.is_dir() else _file(path)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error.__cause__
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a file that lies may make any library complain in any way
        raise CheckpointError(f"{path}: it is damaged ({_short(error)})") from error


def read_tensor(contents: Contents, key: str, stored: Stored) -> Tensor:
    """A tensor's numbers.

    Raises:
        CheckpointError: the file does not have what it claims.
    """
    try:
        return stored.read()
    except CheckpointError as error:
        raise CheckpointError(f"{contents.where}: {key}: {error}") from error
    except Exception as error:  # as above
        raise CheckpointError(f"{contents.where}: {key} is damaged ({_short(error)})") from error


def _short(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


def _in_memory(source: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _stored(value)
        if isinstance(value, Tensor)
        else (_in_memory(value) if isinstance(value, Mapping) else value)
        for key, value in source.items()
    }


def _stored(tensor: Tensor) -> Stored:
    if tensor.is_meta:
        raise CheckpointError("the given tensors are on the meta device, and have no numbers")
    return Stored(tuple(tensor.shape), tensor.dtype, lambda: tensor.detach())


def _file(path: Path) -> Contents:
    with path.open("rb") as file:
        head = file.read(16)
    if head[:4] == b"PK\x03\x04":
        from hexavit.checkpoints.torch_files import read_zip

        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if names and names[0].endswith(".npy"):
            from hexavit.checkpoints.npz_files import read_npz

            return read_npz(path)
        return read_zip(path)
    if head[8:9] == b"{":
        return _safetensors(path)
    if head[:1] == b"\x80":
        from hexavit.checkpoints.torch_files import read_legacy

        return read_legacy(path)
    raise CheckpointError("it is none of safetensors, PyTorch's .pth, and NumPy's .npz")


def _safetensors(path: Path) -> Contents:
    from safetensors import safe_open

    tree: dict[str, Stored] = {}
    with safe_open(path, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118  # not a mapping
            shape = tuple(file.get_slice(key).get_shape())
            dtype = _SAFETENSORS_TYPES.get(file.get_slice(key).get_dtype())
            if dtype is None:
                raise CheckpointError(f"{key} holds {file.get_slice(key).get_dtype()}, and weights are plain numbers")
            tree[key] = Stored(shape, dtype, partial(_read_safetensor, path, key))
    return Contents(str(path), "safetensors", tree)


def _read_safetensor(path: Path, key: str) -> Tensor:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return cast("Tensor", file.get_tensor(key))


_SAFETENSORS_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def _folder(path: Path) -> Contents:
    """A folder of transformers: a file or shards, and what its configuration says."""
    run = RunPaths(path)
    if run.config.is_file():
        return _run(run)
    config = _json(path / "config.json") if (path / "config.json").is_file() else {}
    for name in _SINGLE:
        if (path / name).is_file():
            found = _file(path / name)
            found.where, found.config, found.class_names = str(path), config, class_names(config)
            if (path / "architecture.json").is_file():
                with suppress(HexavitError):  # parts that are not registered do not matter to the weights
                    text = (path / "architecture.json").read_text(encoding="utf-8")
                    found.architecture = Architecture.from_json(text)
                found.preprocessing = preprocessing(config.get("pretrained_cfg"))
            return found
    for name in _INDEXES:
        if (path / name).is_file():
            return _shards(path, _json(path / name), config)
    raise CheckpointError(f"it is a folder with none of {', '.join((*_SINGLE, *_INDEXES))}")


def _run(run: RunPaths) -> Contents:
    """The best weights of a run folder, and what the folder says of them."""
    if not run.weights("best").is_file():
        raise CheckpointError("its training run has no weights yet: it has not finished an epoch")
    found = _file(run.weights("best"))
    found.architecture = Architecture.from_json(run.architecture.read_text(encoding="utf-8"))
    found.class_names = class_names({"label_names": json.loads(run.classes_file.read_text(encoding="utf-8"))})
    found.preprocessing = preprocessing(_json(run.input_file))
    return found


def _shards(path: Path, index: Mapping[str, Any], config: Mapping[str, Any]) -> Contents:
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError("its index has no weight_map from keys to files")
    tree: dict[str, Any] = {}
    foreign: dict[str, int] = {}
    form = ""
    for name in sorted(set(weight_map.values())):
        if Path(name).name != name or name in ("", ".", ".."):
            raise CheckpointError(f"its index names {name!r}, which lies outside the folder")
        if not (path / name).is_file():
            raise CheckpointError(f"its index names {name}, which is not there")
        shard = _file(path / name)
        tree.update(shard.tree)
        foreign.update(shard.foreign)
        form = f"{shard.format} in {len(set(weight_map.values()))} shards"
    if set(tree) != set(weight_map):
        raise CheckpointError(f"its index and its shards differ in {listed(sorted(set(tree) ^ set(weight_map)))}")
    return Contents(str(path), form, tree, foreign, config, class_names=class_names(config))


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _MAX_JSON:
        raise CheckpointError(f"{path.name} is larger than any such file")
    data = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        raise CheckpointError(f"{path.name} is not a JSON object")
    return data
