"""The Lightning module: one model, one objective, AdamW with a warm-up and a cosine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple, cast

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from hexavit.data.loader import UNCOUNTED
from hexavit.data.seeding import derive
from hexavit.evaluation.metrics import accuracies, mean_loss
from hexavit.processes import Processes
from hexavit.training.config import TrainConfig
from hexavit.training.loop.accumulation import Accumulation, batch_norm_state, put_back
from hexavit.training.loop.optimizer import freeze, frozen_stages, make_optimizer, make_schedule
from hexavit.training.loop.train_state import Position, set_loops
from hexavit.training.objectives.losses import CrossEntropy
from hexavit.training.objectives.objective import Lesson

Batch = tuple[Tensor, Tensor]


class Wishes(NamedTuple):
    """What a process asks for between two steps; granted to one, it is granted to all, at the same step.

    Attributes:
        interrupt: to leave after a SIGINT.
        terminate: to leave after a SIGTERM.
        save: to write a checkpoint.
    """

    interrupt: bool = False
    terminate: bool = False
    save: bool = False


class NotFiniteError(Exception):
    """A step whose loss or gradient is not finite; it was not taken.

    Attributes:
        value: the loss, or the norm of the gradient.
        what: which of the two.
        images: (n, C, H, W), as the model saw them on this process.
        target: (n,) or (n, K).
        position: before the step.
    """

    def __init__(self, what: str, value: float, images: Tensor, target: Tensor, position: Position) -> None:
        super().__init__(f"the {what} became {value}")
        self.what, self.value, self.images, self.target, self.position = what, value, images, target, position


class Classifier(L.LightningModule):
    """Trains a model on (images, labels), a step a batch, whose gradients it may add up part by part.

    It logs ``loss``, ``accuracy`` and ``top5`` of the held-out images once an epoch; the training loss is in
    ``position``.

    Args:
        model: from images (B, C, H, W) to logits (B, K).
        config: the settings of the training.
        num_classes: K.
        lesson: from the model and a batch to the loss; by default the labels teach.
        tell: called with a sentence that the user should read.

    Attributes:
        position: where the training stands.
        averaged: the moving average of the model's weights, or nothing.
        processes: that train together.
        batch: images in a whole batch, over all processes; None where each process has as many.
        wishes: asked in every step; see :class:`Wishes`.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        num_classes: int,
        lesson: Lesson | None = None,
        tell: Callable[[str], None] = print,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.averaged = (
            ModelEmaV3(model, decay=config.ema, use_warmup=True).requires_grad_(False) if config.ema else None
        )
        self.config = config
        freeze(model, config.freeze)
        self.lesson = lesson or Lesson(model, config, num_classes)
        self.held_out_objective = CrossEntropy()
        self.loss = mean_loss()
        self.accuracies = accuracies(num_classes)
        self.position = Position()
        self.processes = Processes()
        self.batch: int | None = None
        self.wishes: Callable[[], Wishes] = Wishes
        self.agreed = Wishes()
        self._tell = tell
        self.accumulation = Accumulation(config.micro_batch, tell, self.processes)

    @property
    def judged(self) -> nn.Module:
        """The model that is judged and kept: the averaged one, if there is one."""
        return self.model if self.averaged is None else cast("nn.Module", self.averaged.module)

    @property
    def micro_batch(self) -> int:
        """Images that one device takes at once, at most."""
        most = -(-(self.batch or self.config.batch_size) // self.processes.world)
        return min(self.accumulation.micro or most, most)

    def forward(self, images: Tensor) -> Tensor:
        return cast("Tensor", self.model(images))

    def join(self, processes: Processes) -> None:
        """Train together with others; called once their group stands."""
        self.processes = processes
        self.accumulation = Accumulation(self.accumulation.micro, self._tell, processes)

    def on_fit_start(self) -> None:
        self.join(Processes.current())

    def on_train_start(self) -> None:
        self._since = time.perf_counter()

    def on_train_epoch_start(self) -> None:  # is not called where a training goes on within an epoch
        self._since = time.perf_counter()

    def mixed(self, images: Tensor, target: Any) -> Batch:
        """This process's images and targets: mixed, if the settings say so, and without the image before them."""
        if self.lesson.mixture is None:
            return self.lesson.mixed(images, target)
        # Every process draws the same; dropout draws after it, so that there is nothing to carry over an interruption.
        torch.manual_seed(derive(self.config.seed, "step", self.position.epoch, self.position.done))
        images, target = self.lesson.mixed(images, target)
        return (images[1:], target[1:]) if self.processes.world > 1 else (images, target)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if batch_idx < self.position.done:  # trained on before an interruption; see Position.first_batch
            return torch.tensor(self.position.last)
        images, target = self.mixed(*batch)
        norms = batch_norm_state(self.model)
        place = (self.position.epoch, self.position.done, self.processes.rank)
        loss = self.accumulation.gradient(
            self.model,
            images,
            target,
            batch=self.batch or len(images) * self.processes.world,
            loss_of=self._loss,
            backward=self.manual_backward,
            unsynced=getattr(self.trainer.model, "no_sync", nullcontext),
            seed=derive(self.config.seed, "draws", *place),
        )
        mean, count, self.agreed = self._agree(loss, len(images))
        self._stop_unless_finite("loss", mean, norms, images, target)
        scale = self._loss_scale()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), scale * self.config.clip_grad or math.inf)
        if scale == 1:  # else the scaler leaves out the step, and takes a smaller scale for the next
            self._stop_unless_finite("norm of the gradient", float(norm), norms, images, target)
        self._update()
        self.position.add(mean, count)
        now = time.perf_counter()
        self.position.seconds += now - self._since
        self._since = now
        return torch.tensor(mean)

    def _loss(self, images: Tensor, target: Tensor) -> Tensor:
        return self.lesson.loss(self.model, images, target)

    def _agree(self, loss: float, images: int) -> tuple[float, int, Wishes]:
        """The mean loss and the number of images over all processes, and what any of them wishes."""
        wishes = self.wishes()
        total, count, *wished = self.processes.total([loss, images, *wishes], self.device)
        return total / count, round(count), Wishes(*map(bool, wished))

    def _stop_unless_finite(
        self, what: str, value: float, norms: list[tuple[Tensor, Tensor]], images: Tensor, target: Tensor
    ) -> None:
        if not math.isfinite(value):
            put_back(norms)
            raise NotFiniteError(what, value, images, target, self.position)

    def _loss_scale(self) -> float:
        """By what the gradients are larger than they are, which float16 asks for."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        return 1.0 if scaler is None else float(scaler.get_scale())

    def _update(self) -> None:
        optimizers, schedulers = self.optimizers(), self.lr_schedulers()
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            optimizer.step()
        for scheduler in schedulers if isinstance(schedulers, list) else [schedulers] if schedulers else []:
            cast("Any", scheduler).step()
        if self.averaged is not None:
            self.averaged.update(self.model, step=self.trainer.global_step)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, labels = (each[batch[1] != UNCOUNTED] for each in batch)
        for some, their in zip(
            *(each.split(self.accumulation.micro or len(each) or 1) for each in (images, labels)), strict=True
        ):
            if len(some):
                logits = self.judged(some)
                self.loss(self.held_out_objective(logits, their), len(some))
                self.accuracies(logits, their)
        self.agreed = self._agree(0.0, 1)[2]
        self.log("loss", self.loss, on_step=False, on_epoch=True)
        self.log_dict(self.accuracies, on_step=False, on_epoch=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["position"] = self.position.as_dict()
        checkpoint["micro_batch"] = self.accumulation.micro
        set_loops(checkpoint["loops"]["fit_loop"], self.position, int(self.trainer.num_training_batches))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.position = Position(**checkpoint["position"])
        self.accumulation.micro = checkpoint["micro_batch"]

    def train(self, mode: bool = True) -> Classifier:
        super().train(mode)
        for stage in frozen_stages(self.model, self.config.freeze):
            stage.eval()  # neither running statistics nor drop path move what does not learn
        return self

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = make_optimizer(self.model, self.config)
        schedule = make_schedule(optimizer, self.config, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
