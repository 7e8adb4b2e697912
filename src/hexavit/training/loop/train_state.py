"""Where a training stands, between two steps: written to a checkpoint, and given back to Lightning's loop."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Position:
    """After so many steps of an epoch, with what the epoch has added up so far.

    Attributes:
        epoch: from 0.
        done: steps of it that are taken.
        images: that went through them, over all processes.
        loss: sum of their losses.
        last: mean loss of the last step.
        seconds: that the steps took.
    """

    epoch: int = 0
    done: int = 0
    images: int = 0
    loss: float = 0.0
    last: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"after step {self.done} of epoch {self.epoch + 1}" if self.done else f"with epoch {self.epoch + 1}"

    @property
    def mean_loss(self) -> float:
        """Of the epoch so far."""
        return self.loss / self.images

    def add(self, loss: float, images: int) -> None:
        """Count one step: its mean loss, and the images in it."""
        self.done += 1
        self.images += images
        self.loss += loss * images
        self.last = loss

    def next_epoch(self) -> None:
        """Stand at the beginning of the next epoch."""
        self.__init__(self.epoch + 1)  # type: ignore[misc]

    def first_batch(self, per_epoch: int) -> int:
        """The batch of the epoch that the loop asks for first on going on from here.

        When all are trained on and the held-out images are not judged yet, it is the last one once more: Lightning
        judges after a batch, and a step that is done is passed over.
        """
        return min(self.done, per_epoch - 1)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)


def set_loops(loops: dict[str, Any], position: Position, per_epoch: int) -> None:
    """Set the counters of Lightning's fit loop, as its ``state_dict`` has them, to a position.

    A checkpoint may be written within any hook, also while the held-out images are judged; what the counters say
    there is not always a state from which Lightning goes on as if nothing had been.
    """
    epoch, batch = position.epoch, position.first_batch(per_epoch)
    if batch:  # as after a batch: its end is still to be counted
        _count(loops["epoch_progress"], epoch + 1, epoch + 1, epoch, epoch)
        _count(loops["epoch_loop.batch_progress"], batch, batch, batch, batch - 1, before=epoch * per_epoch)
    else:  # as after an epoch: its end is still to be counted
        _count(loops["epoch_progress"], epoch, epoch, epoch, max(epoch - 1, 0))
        last = per_epoch if epoch else 0
        _count(loops["epoch_loop.batch_progress"], last, last, last, last, before=max(epoch - 1, 0) * per_epoch)
    loops["epoch_loop.batch_progress"]["is_last_batch"] = batch == 0 and epoch > 0
    _count(loops["epoch_loop.val_loop.batch_progress"], 0, 0, 0, 0)


def _count(
    progress: dict[str, Any], ready: int, started: int, processed: int, completed: int, *, before: int = 0
) -> None:
    values = {"ready": ready, "started": started, "processed": processed, "completed": completed}
    progress["current"] = dict(values)
    progress["total"] = {name: value + before for name, value in values.items()}
