"""How far a training run has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
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
        sums: sums over these images of what the objective logs besides the loss.
    """

    epoch: int = 0
    step: int = 0
    images: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)

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

    @property
    def means(self) -> dict[str, float]:
        """The means of :attr:`sums` in the epoch so far."""
        return {name: total / self.images for name, total in self.sums.items()}

    def add(self, loss: float, images: int, seconds: float = 0.0, sums: Mapping[str, float] | None = None) -> None:
        """Count one step.

        Args:
            loss: mean loss of the step.
            images: number of images of the step.
            seconds: duration of the step.
            sums: added to :attr:`sums`.
        """
        self.step += 1
        self.images += images
        self.loss += loss * images
        self.seconds += seconds
        for name, value in (sums or {}).items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def next_epoch(self) -> None:
        """Move to the start of the next epoch."""
        self.__init__(self.epoch + 1)  # type: ignore[misc]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)
