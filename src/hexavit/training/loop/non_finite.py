"""A step whose loss or gradient is not finite: the error, and the file with the batch of the step."""

from __future__ import annotations

from safetensors.torch import save
from torch import Tensor

from hexavit.errors import RunError
from hexavit.files import replacing
from hexavit.runs.run_folder import Run
from hexavit.training.loop.train_state import TrainState


class NotFiniteError(Exception):
    """The loss or the gradient of a step is not finite; the weights were not changed.

    Attributes:
        what: ``loss`` or ``norm of the gradient``.
        value: its value.
        images: (n, C, H, W), this process's share of the batch as the model received it.
        target: (n,) or (n, K).
        state: position before the step.
    """

    def __init__(self, what: str, value: float, images: Tensor, target: Tensor, state: TrainState) -> None:
        super().__init__(f"the {what} became {value}")
        self.what, self.value, self.images, self.target, self.state = what, value, images, target, state


def save_bad_batch(error: NotFiniteError, run: Run, seed: int, rank: int = 0) -> RunError:
    """Write the batch to ``bad_batch.safetensors`` in the run folder.

    The file holds ``images`` and ``target``, and as metadata ``what`` was not finite, ``seed``, ``epoch`` and ``step``
    (both from 1).

    Args:
        error: the error of the step.
        run: the run folder.
        seed: seed of the run.
        rank: rank of the process; processes other than the first write ``bad_batch.RANK.safetensors``.

    Returns:
        The error to show to the user.
    """
    path = run.path / ("bad_batch.safetensors" if rank == 0 else f"bad_batch.{rank}.safetensors")
    epoch, step = error.state.epoch + 1, error.state.step + 1
    tensors = {"images": error.images.detach().cpu().contiguous(), "target": error.target.detach().cpu().contiguous()}
    metadata = {"what": str(error), "seed": str(seed), "epoch": str(epoch), "step": str(step)}
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, metadata))
    weights = run.weights("last")
    before = f", and those after the previous epoch in {weights.parent}" if weights.is_file() else ""
    return RunError(
        f"the {error.what} became {error.value} in epoch {epoch}, step {step}: try a lower lr; the step was not taken, "
        f"its batch is in {path}, the weights before it in {run.checkpoint}{before}"
    )
