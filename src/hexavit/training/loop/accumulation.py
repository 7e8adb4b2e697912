"""Gradients of a batch in micro-batches, with an error that names ``--micro-batch`` when memory runs out."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hexavit.errors import RunError
from hexavit.processes import Processes

_NO_MEMORY = re.compile("out of memory|not enough memory|can't allocate memory|cannot allocate memory", re.IGNORECASE)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an accelerator, or PyTorch's allocator on the CPU, ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error)))
    )


def largest_share(batch_size: int, processes: Processes) -> int:
    """Images of a batch that the process with the largest share takes."""
    return -(-batch_size // processes.world)


def count_micro_batches(batch_size: int, micro_batch: int | None, processes: Processes) -> int:
    """Number of micro-batches into which each process splits its share of a batch.

    It is the same on all processes, as they exchange statistics (batch norm) in every forward pass.
    """
    if micro_batch is None:
        return 1
    smallest_share = batch_size // processes.world
    return max(1, min(-(-largest_share(batch_size, processes) // micro_batch), smallest_share))


def accumulate_gradients(
    fabric: Fabric,
    module: nn.Module,
    images: Tensor,
    target: Tensor,
    *,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    batch_size: int,
    micro_batch: int | None,
    processes: Processes,
) -> float:
    """Compute the gradient of the mean loss of a batch, in micro-batches.

    Each micro-batch is weighted with its share of the images, so that the sum is the gradient of the whole batch, up to
    floating-point rounding. Only batch norm (statistics per micro-batch), dropout and drop path (masks per micro-batch)
    depend on the micro-batches.

    Args:
        fabric: runs the backward pass.
        module: the model as ``fabric.setup`` returned it; its gradients are added to.
        images: (n, C, H, W), this process's share of the batch.
        target: (n,) or (n, K).
        loss_of: from images and target to their mean loss.
        batch_size: images of the whole batch, over all processes.
        micro_batch: images in one forward pass; None for the whole share.
        processes: the processes that share the batch.

    Returns:
        The sum of the losses of this process's images.

    Raises:
        RunError: the device is out of memory, or a batch norm receives a single value per channel.
    """
    count = count_micro_batches(batch_size, micro_batch, processes)
    pairs = zip(images.tensor_split(count), target.tensor_split(count), strict=True)
    total = 0.0
    try:
        for number, (some, their) in enumerate(pairs, 1):
            with fabric.no_backward_sync(module, enabled=number < count), fabric.autocast():  # type: ignore[arg-type]
                loss = loss_of(some, their)
                share = len(some) * processes.world / batch_size  # DDP averages the gradients of the processes
                fabric.backward(loss if share == 1 else loss * share)
            total += float(loss.detach()) * len(some)
    except (RuntimeError, ValueError) as error:
        if "more than 1 value per channel" in str(error):
            raise RunError(
                "a batch norm of this model received a single value per channel, which has no variance: set batch_size "
                "and micro_batch to 2 or more, or use a larger img_size"
            ) from error
        if not is_out_of_memory(error):
            raise
        raise _out_of_memory(max(map(len, images.tensor_split(count)))) from error
    return total


def _out_of_memory(at_once: int) -> RunError:
    if at_once == 1:
        return RunError("out of memory with one image at a time: use a smaller model or a smaller img_size")
    return RunError(
        f"out of memory with {at_once} images at a time: continue with --resume --micro-batch {at_once // 2}, which "
        "gives the same result"
    )


def batch_norm_state(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """The buffers of the batch norms in training mode, each with a copy."""
    norms = (each for each in model.modules() if isinstance(each, _BatchNorm) and each.training)
    return [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]


def restore(state: list[tuple[Tensor, Tensor]]) -> None:
    """Undo changes since :func:`batch_norm_state`."""
    for buffer, copy in state:
        buffer.copy_(copy)
