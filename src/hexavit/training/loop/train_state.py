"""How far a training run has come."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class TrainState:
    """The position of a run between two steps, with the sums of the current epoch.

    Attributes:
        epoch: current epoch, from 0.
        step: steps taken in this epoch.
        images: images of these steps, over all processes.
        loss: sum of the losses of these images.
        seconds: duration of these steps.
    """

    epoch: int = 0
    step: int = 0
    images: int = 0
    loss: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"after step {self.step} of epoch {self.epoch + 1}" if self.step else f"with epoch {self.epoch + 1}"

    @property
    def mean_loss(self) -> float:
        """Mean training loss of the epoch so far."""
        return self.loss / self.images

    @property
    def images_per_second(self) -> float:
        """Training speed of the epoch so far."""
        return self.images / self.seconds

    def add(self, loss: float, images: int, seconds: float = 0.0) -> None:
        """Count one step.

        Args:
            loss: mean loss of the step.
            images: number of images of the step.
            seconds: duration of the step.
        """
        self.step += 1
        self.images += images
        self.loss += loss * images
        self.seconds += seconds

    def next_epoch(self) -> None:
        """Move to the start of the next epoch."""
        self.__init__(self.epoch + 1)  # type: ignore[misc]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)
