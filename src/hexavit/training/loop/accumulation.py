"""One step's gradients from as many images at once as the device holds: out of memory, it halves them and goes on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hexavit.errors import RunError
from hexavit.processes import Processes

_NO_MEMORY = re.compile("out of memory|not enough memory|can't allocate memory|cannot allocate memory", re.IGNORECASE)

Loss = Callable[[Tensor, Tensor], Tensor]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or PyTorch's allocator on the CPU, had no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error)))
    )


class Accumulation:
    """Computes the gradient of a batch's mean loss, in parts of at most :attr:`micro` images.

    The sum over the parts, each weighted with its share of the images, is the gradient of the whole batch: up to
    rounding it does not depend on the parts. Only batch norm, whose statistics are those of a part, and dropout, whose
    masks are drawn part by part, see them.

    Args:
        micro: images at once on one device; None is a process's whole share.
        tell: called with a sentence when memory did not suffice.
        processes: that share the batch. Where there are several, none can halve on its own, as the others wait for its
            sums: the training stops, and says with what it can go on.
    """

    def __init__(self, micro: int | None, tell: Callable[[str], None], processes: Processes) -> None:
        self.micro = micro
        self._tell = tell
        self._processes = processes

    def parts(self, batch: int) -> int:
        """Into how many parts each process splits its share of a batch; the same for all, as they wait for one
        another in every part."""
        world = self._processes.world
        least, most = batch // world, -(-batch // world)
        return 1 if self.micro is None else max(1, min(-(-most // self.micro), least))

    def gradient(
        self,
        model: nn.Module,
        images: Tensor,
        target: Tensor,
        *,
        batch: int,
        loss_of: Loss,
        backward: Callable[[Tensor], None],
        unsynced: Callable[[], AbstractContextManager[object]] = nullcontext,
        seed: int,
    ) -> float:
        """Leave the gradient in the model's parameters, and give the sum of this process's losses.

        Args:
            model: whose batch norms are put back when an attempt fails.
            images: (n, C, H, W), this process's share.
            target: (n,) or (n, K).
            batch: images in the whole batch.
            loss_of: from images and target to their mean loss.
            backward: from a loss to gradients, which it adds to those there are.
            unsynced: a context in which the gradients of the processes are not averaged yet.
            seed: of dropout and its like.

        Raises:
            RunError: when one image is too many, or one of several processes has no memory; or when a batch norm sees
                one value.
        """
        norms = batch_norm_state(model)
        while True:
            try:
                return self._attempt(model, images, target, batch, loss_of, backward, unsynced, seed)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise RunError(
                    "a single image at a time, at this size, leaves a batch norm of this model one value, which has no "
                    "variance: take a batch_size and a micro_batch of 2 or more, or a larger img_size"
                ) from error
            put_back(norms)
            self._halve(-(-batch // self._processes.world))

    def _attempt(
        self,
        model: nn.Module,
        images: Tensor,
        target: Tensor,
        batch: int,
        loss_of: Loss,
        backward: Callable[[Tensor], None],
        unsynced: Callable[[], AbstractContextManager[object]],
        seed: int,
    ) -> float:
        for parameter in model.parameters():
            parameter.grad = None
        torch.manual_seed(seed)
        parts = self.parts(batch)
        total = 0.0
        pairs = zip(images.tensor_split(parts), target.tensor_split(parts), strict=True)
        for number, (some, their) in enumerate(pairs, 1):
            loss = loss_of(some, their)
            share = len(some) * self._processes.world / batch  # the processes' gradients are averaged
            with nullcontext() if number == parts else unsynced():
                backward(loss if share == 1 else loss * share)
            total += float(loss.detach()) * len(some)
        return total

    def _halve(self, most: int) -> None:
        before = most if self.micro is None else min(self.micro, most)
        smaller = before // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if smaller < 1:
            raise RunError("out of memory with one image at a time: take a smaller model, or a smaller img_size")
        if self._processes.world > 1:
            raise RunError(f"out of memory with {before} images at a time: go on with --resume --micro-batch {smaller}")
        self.micro = smaller
        self._tell(
            f"out of memory with {before} images at a time: from here on {smaller} at a time, their gradients added "
            "up, so that a step is what it was"
        )


def batch_norm_state(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """The buffers of the batch norms, each with a copy: what a forward pass in training changes."""
    norms: Iterable[nn.Module] = (each for each in model.modules() if isinstance(each, _BatchNorm) and each.training)
    return [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]


def put_back(state: list[tuple[Tensor, Tensor]]) -> None:
    """Undo what changed since :func:`batch_norm_state`."""
    for buffer, kept in state:
        buffer.copy_(kept)
