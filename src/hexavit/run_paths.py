"""Paths inside a run folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

Weights = Literal["best", "last"]


def _inside(*names: str) -> cached_property[Path]:
    """An attribute: a path inside the run folder."""
    return cached_property(lambda run: run.path.joinpath(*names))


@dataclass(frozen=True)
class RunPaths:
    """The files that a training run writes. They are paths only: a file may not exist yet.

    Attributes:
        path: the run folder.
    """

    path: Path

    config = _inside("config.yaml")
    """All settings of the run. A folder with this file is a run folder."""
    architecture = _inside("architecture.json")
    """The model as data."""
    classes_file = _inside("classes.json")
    """Class names in the order of the logits."""
    thresholds_file = _inside("thresholds.json")
    """Probabilities from which the classes are predicted; only for data with several classes per image."""
    input_file = _inside("input.json")
    """Preprocessing of images."""
    split_file = _inside("split.json")
    """Names of the training, validation and skipped images."""
    checkpoint = _inside("checkpoints", "last.ckpt")
    """The complete training state, read by ``--resume``."""
    history = _inside("metrics.csv")
    """Metrics, one row per epoch."""
    metrics = _inside("metrics.json")
    """The final metrics, written when the run has finished."""
    curves = _inside("curves.png")
    """Plot of loss and accuracy over the epochs."""
    tensorboard = _inside("tensorboard")
    """Event files for TensorBoard."""
    wandb = _inside("wandb")
    """Files of Weights & Biases, if the run logs to it."""
    examples = _inside("examples")
    """Validation images that the demo writes for ``hexavit predict``."""

    def weights(self, which: Weights) -> Path:
        """Weights of the epoch with the best validation accuracy, or of the last epoch."""
        return self.path / "weights" / f"{which}.safetensors"
