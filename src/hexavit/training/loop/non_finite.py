"""What is kept of a step that broke a training: its batch, as the model saw it, and where it stood."""

from __future__ import annotations

from safetensors.torch import save

from hexavit.errors import RunError
from hexavit.files import replacing
from hexavit.runs.run_folder import Run
from hexavit.training.loop.module import NotFiniteError


def keep_batch(error: NotFiniteError, run: Run, seed: int, rank: int = 0) -> RunError:
    """Write ``bad_batch.safetensors`` into the run folder: ``images``, ``target``, and as metadata ``what`` was not
    finite, ``seed``, ``epoch`` and ``step`` (both from 1).

    Args:
        error: what the step raised.
        run: the folder.
        seed: of the training.
        rank: of the process, whose share of the batch it is; those after the first write ``bad_batch.RANK``.

    Returns:
        The sentence for the user.
    """
    path = run.path / ("bad_batch.safetensors" if rank == 0 else f"bad_batch.{rank}.safetensors")
    epoch, step = error.position.epoch + 1, error.position.done + 1
    tensors = {"images": error.images.detach().cpu().contiguous(), "target": error.target.detach().cpu().contiguous()}
    metadata = {"what": str(error), "seed": str(seed), "epoch": str(epoch), "step": str(step)}
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, metadata))
    before = f", those of the epoch before in {weights.parent}" if (weights := run.weights("last")).is_file() else ""
    return RunError(
        f"the {error.what} became {error.value} in epoch {epoch}, step {step}: try a lower lr; the step was not taken, "
        f"its batch is in {path}, the weights before it in {run.checkpoint}{before}"
    )
