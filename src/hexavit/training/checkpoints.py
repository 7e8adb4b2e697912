"""Checkpoints written whole, and read without running anything that they might hold."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from hexavit.errors import CheckpointError
from hexavit.training.files import replacing


class WholeCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, put in place by a rename; of a reading, tensors and plain values only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with replacing(Path(path)) as temporary:
            torch.save(checkpoint, temporary)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            CheckpointError: when the file is damaged, or holds more than tensors and plain values.
        """
        try:
            checkpoint: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise CheckpointError(f"{path}: this checkpoint is damaged or not safe to read") from error
        return checkpoint
