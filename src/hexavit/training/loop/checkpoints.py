"""Checkpoint files: written atomically, verified by a checksum, read without executing code from the file.

A file is what ``torch.save`` writes, then ``hexavit checkpoint`` with the BLAKE2b checksum of all before, in hex.
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

from hexavit.errors import CheckpointError
from hexavit.files import replacing
from hexavit.runs.run_folder import Run

_MARK = b"\nhexavit checkpoint "
_CHECKSUM = 32
_TAIL = len(_MARK) + 2 * _CHECKSUM

Checkpoint = dict[str, Any]
"""The state of a run: tensors and plain values by name."""


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically. The file that was at ``path`` is kept as :func:`previous_checkpoint`.

    Raises:
        RunError: it cannot be written; the file that was at ``path`` is unchanged.
    """
    content = io.BytesIO()  # torch.save to a file reports a full disk as another error
    torch.save(checkpoint, content)
    tail = _MARK + hashlib.blake2b(content.getbuffer(), digest_size=_CHECKSUM).hexdigest().encode()
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            file.write(content.getbuffer())
            file.write(tail)
            file.flush()
            os.fsync(file.fileno())
        _keep_previous(path)


def _keep_previous(path: Path) -> None:
    """Rename the current checkpoint to the previous one; at every moment at least one of the two exists."""
    if not path.is_file():
        return
    link = path.with_name(f".{path.name}.{os.getpid()}.link.part")
    try:
        os.link(path, link)
    except OSError:  # a file system without hard links
        os.replace(path, previous_checkpoint(path))
        return
    os.replace(link, previous_checkpoint(path))
    with suppress(OSError):
        link.unlink()  # os.replace does nothing if both names are the same file already


def previous_checkpoint(path: Path) -> Path:
    """The path of the checkpoint that was written before the one at ``path``."""
    return path.with_name("before.ckpt")


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint to the CPU.

    Raises:
        CheckpointError: the file is damaged, or holds more than tensors and plain values.
    """
    try:
        content = path.read_bytes()
        body, mark, checksum = content[:-_TAIL], content[-_TAIL : -2 * _CHECKSUM], content[-2 * _CHECKSUM :]
        if mark != _MARK or hashlib.blake2b(body, digest_size=_CHECKSUM).hexdigest().encode() != checksum:
            raise EOFError
        checkpoint = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
        if not isinstance(checkpoint, dict):
            raise EOFError
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: this checkpoint is damaged or not safe to read") from error
    return checkpoint


def newest_checkpoint(run: Run, tell: Callable[[str], None]) -> Checkpoint | None:
    """The newest undamaged checkpoint of a run, or None where none was written.

    Args:
        run: the run folder.
        tell: called with a sentence when the newest file is damaged and the previous one is used.

    Raises:
        CheckpointError: all checkpoints are damaged, or were written by an earlier version.
    """
    failed: CheckpointError | None = None
    for path in (run.checkpoint, previous_checkpoint(run.checkpoint)):
        if not path.is_file():
            continue
        try:
            checkpoint = read_checkpoint(path)
        except CheckpointError as error:
            failed = failed or error
            continue
        if failed is not None:
            tell(f"{failed}; continuing from the previous one, {path.name}")
        if "train_state" not in checkpoint:
            raise CheckpointError(
                f"{path}: this checkpoint was written by an earlier version of hexavit, which cannot be resumed; to "
                f"start a new run from its weights: {_train(run)} --from {shlex.quote(str(run.path))} --out NEW_FOLDER"
            )
        return checkpoint
    if failed is None:
        return None
    raise CheckpointError(
        f"{failed}, and there is no undamaged one before it; to start again: {_train(run)} "
        f"--out {shlex.quote(str(run.path))} --overwrite"
    ) from failed


def _train(run: Run) -> str:
    return f"hexavit train --config {shlex.quote(str(run.config))}"
