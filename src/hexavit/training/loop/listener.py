"""What the training loop reports to: progress display, time estimate, experiment trackers."""

from __future__ import annotations

from hexavit.runs.history import Row
from hexavit.training.loop.train_state import TrainState


class Listener:
    """Called by the training loop on the first process. Every method does nothing by default."""

    def on_start(self, state: TrainState, steps_per_epoch: int, epochs: float) -> None:
        """The loop starts or resumes at ``state``; ``epochs`` is not whole where the last one is shorter."""

    def on_step(self, state: TrainState, loss: float, seconds: float) -> None:
        """A step was taken: its mean loss, and its duration."""

    def on_epoch(self, row: Row) -> None:
        """An epoch was validated, and its files are written."""

    def on_end(self, *, failed: bool) -> None:
        """The loop ended, or was left by an exception."""
