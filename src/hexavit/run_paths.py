"""Paths inside a run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Weights = Literal["best", "last"]


@dataclass(frozen=True)
class RunPaths:
    """The files that a training run writes. They are paths only: a file may not exist yet.

    Attributes:
        path: the run folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """All settings of the run. A folder with this file is a run folder."""
        return self.path / "config.yaml"

    @property
    def architecture(self) -> Path:
        """The model as data."""
        return self.path / "architecture.json"

    @property
    def classes_file(self) -> Path:
        """Class names in the order of the logits."""
        return self.path / "classes.json"

    @property
    def input_file(self) -> Path:
        """Preprocessing of images."""
        return self.path / "input.json"

    @property
    def split_file(self) -> Path:
        """Names of the training, validation and skipped images."""
        return self.path / "split.json"

    @property
    def checkpoint(self) -> Path:
        """The complete training state, read by ``--resume``."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def history(self) -> Path:
        """Metrics, one row per epoch."""
        return self.path / "metrics.csv"

    @property
    def metrics(self) -> Path:
        """The final metrics, written when the run has finished."""
        return self.path / "metrics.json"

    @property
    def curves(self) -> Path:
        """Plot of loss and accuracy over the epochs."""
        return self.path / "curves.png"

    @property
    def tensorboard(self) -> Path:
        """Event files for TensorBoard."""
        return self.path / "tensorboard"

    @property
    def wandb(self) -> Path:
        """Files of Weights & Biases, if the run logs to it."""
        return self.path / "wandb"

    @property
    def examples(self) -> Path:
        """Validation images that the demo writes for ``hexavit predict``."""
        return self.path / "examples"

    def weights(self, which: Weights) -> Path:
        """Weights of the epoch with the best validation accuracy, or of the last epoch."""
        return self.path / "weights" / f"{which}.safetensors"
