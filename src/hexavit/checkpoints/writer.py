"""Writing weights: whole files or none, by the suffix of their name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hexavit import files
from hexavit.errors import CheckpointError, RunError


def write_state(state: Mapping[str, Tensor], path: Path) -> None:
    """Write a state as `.safetensors`, `.pth` (`.pyth`, `.pt`, `.bin`) or `.npz`; a file there is replaced at the end.

    Raises:
        CheckpointError: another suffix, a type that the format has not, or a place that cannot be written to.
    """
    own = {key: _alone(tensor) for key, tensor in state.items()}
    writers: dict[str, Callable[[dict[str, Tensor], Path], None]] = {
        ".safetensors": _safetensors,
        ".npz": _npz,
        **dict.fromkeys((".pth", ".pyth", ".pt", ".bin"), torch.save),
    }
    if path.suffix not in writers:
        raise CheckpointError(f"{path}: weights are written as {', '.join(writers)}, not as {path.suffix!r}")
    _whole(path, lambda place: writers[path.suffix](own, place))


def write_json(data: Mapping[str, Any], path: Path) -> None:
    """Write a JSON object, whole or not at all."""
    write_text(json.dumps(data, indent=2) + "\n", path)


def write_text(text: str, path: Path) -> None:
    """Write a text, whole or not at all."""
    _whole(path, lambda place: place.write_text(text, encoding="utf-8"))


def _whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file atomically."""
    try:
        with files.replacing(path) as place:
            write(place)
    except (CheckpointError, RunError) as error:
        raise CheckpointError(str(error)) from error
    except Exception as error:  # on a full disk PyTorch raises RuntimeError, safetensors its own error
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: this file cannot be written ({reason})") from error


def _alone(tensor: Tensor) -> Tensor:
    """The tensor in memory of its own: formats write what is behind a view, or reject it."""
    tensor = tensor.detach().cpu().contiguous()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _safetensors(state: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file(state, path, metadata={"format": "pt"})


def _npz(state: dict[str, Tensor], path: Path) -> None:
    import numpy as np

    if odd := [key for key, tensor in state.items() if tensor.dtype == torch.bfloat16]:
        raise CheckpointError(f"{path}: NumPy has no bfloat16, which {odd[0]} is: convert the weights to float32 first")
    # Written by hand, as savez takes the keys as names of arguments.
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        for key, tensor in state.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, tensor.numpy(), allow_pickle=False)
