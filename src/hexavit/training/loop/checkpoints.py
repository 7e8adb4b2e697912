"""Checkpoints written whole, with the one before kept, and read without running anything that they might hold.

A file is what ``torch.save`` writes, and after it ``hexavit checkpoint `` and the BLAKE2b digest of all before, in hex.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import shlex
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from hexavit.errors import CheckpointError
from hexavit.files import replacing
from hexavit.runs.run_folder import Run

_MARK = b"\nhexavit checkpoint "
_DIGEST = 32
_TAIL = len(_MARK) + 2 * _DIGEST

State = dict[str, Any]


class WholeCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, put in place by a rename; of a reading, tensors and plain values only.

    Args:
        read: a checkpoint that was read already, which the next load gives.
    """

    def __init__(self, read: State | None = None) -> None:
        super().__init__()
        self._read = read

    def save_checkpoint(self, checkpoint: State, path: str | Path, storage_options: Any = None) -> None:
        write_checkpoint(Path(path), checkpoint)

    def load_checkpoint(self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True) -> State:
        """Read a checkpoint.

        Raises:
            CheckpointError: when the file is damaged, or holds more than tensors and plain values.
        """
        read, self._read = self._read, None
        return read_checkpoint(Path(path)) if read is None else read


def write_checkpoint(path: Path, checkpoint: State) -> None:
    """Write a checkpoint whole, and keep the one that was there as :func:`before`.

    Raises:
        RunError: when it cannot be written; what was there still is.
    """
    content = io.BytesIO()  # torch's writer answers a full disk with less than the truth
    torch.save(checkpoint, content)
    tail = _MARK + hashlib.blake2b(content.getbuffer(), digest_size=_DIGEST).hexdigest().encode()
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            file.write(content.getbuffer())
            file.write(tail)
            file.flush()
            os.fsync(file.fileno())
        _keep(path)


def _keep(path: Path) -> None:
    """Put the checkpoint in the place of the one before; at no moment is there none."""
    if not path.is_file():
        return
    link = path.with_name(f".{path.name}.{os.getpid()}.link.part")
    try:
        os.link(path, link)
    except OSError:  # a file system without links
        os.replace(path, before(path))
        return
    os.replace(link, before(path))
    with suppress(OSError):
        link.unlink()  # where both were one file already, a rename does nothing


def before(path: Path) -> Path:
    """Where the checkpoint before that at ``path`` is kept."""
    return path.with_name("before.ckpt")


def read_checkpoint(path: Path) -> State:
    """The content of a checkpoint, on the CPU.

    Raises:
        CheckpointError: when the file is damaged, or holds more than tensors and plain values.
    """
    try:
        content = path.read_bytes()
        body, mark, digest = content[:-_TAIL], content[-_TAIL : -2 * _DIGEST], content[-2 * _DIGEST :]
        if mark != _MARK or hashlib.blake2b(body, digest_size=_DIGEST).hexdigest().encode() != digest:
            raise EOFError
        checkpoint: State = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
        if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("position"), dict):
            raise EOFError
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: this checkpoint is damaged or not safe to read") from error
    return checkpoint


def newest_checkpoint(run: Run, tell: Callable[[str], None]) -> tuple[Path, State] | None:
    """The newest checkpoint of a run that is whole, or nothing where none was written.

    Args:
        run: the folder.
        tell: called with a sentence when the newest file is damaged and the one before is taken.

    Raises:
        CheckpointError: when there are files and none is whole; it says how to begin anew.
    """
    refused: CheckpointError | None = None
    for path in (run.checkpoint, before(run.checkpoint)):
        if not path.is_file():
            continue
        try:
            checkpoint = read_checkpoint(path)
        except CheckpointError as error:
            refused = refused or error
            continue
        if refused is not None:
            tell(f"{refused}; going on from the one before it, {path.name}")
        return path, checkpoint
    if refused is None:
        return None
    folder, settings = shlex.quote(str(run.path)), shlex.quote(str(run.config))
    raise CheckpointError(
        f"{refused}, and none before it is whole; to begin anew: hexavit train --config {settings} --out {folder} "
        "--overwrite"
    ) from refused
