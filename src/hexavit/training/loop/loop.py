"""The training loop: epochs of steps, each epoch followed by validation, its files and a checkpoint."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple, cast

import torch
from lightning_fabric import Fabric
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.utils.data import DataLoader

from hexavit.data.loader import is_counted
from hexavit.data.seeding import derive
from hexavit.evaluation.metrics import accuracies, figure
from hexavit.evaluation.multilabel import MultilabelMetrics
from hexavit.processes import Processes
from hexavit.runs.history import Row, stopped_early
from hexavit.runs.run_folder import Run
from hexavit.training.config import TrainConfig
from hexavit.training.loop.accumulation import accumulate_gradients, batch_norm_state, largest_share, restore
from hexavit.training.loop.checkpoints import Checkpoint, write_checkpoint
from hexavit.training.loop.head_precision import compute_in_float32
from hexavit.training.loop.listener import Listener
from hexavit.training.loop.non_finite import NotFiniteError
from hexavit.training.loop.optimizer import freeze, frozen_stages, make_optimizer
from hexavit.training.loop.run_writer import RunWriter
from hexavit.training.loop.schedule import scheduled_factor, set_learning_rate, total_epochs, total_steps
from hexavit.training.loop.sharding import gathered, shard, split_optimizer, split_weights
from hexavit.training.loop.signals import Interrupted, SignalListener
from hexavit.training.loop.train_state import TrainState
from hexavit.training.objectives.losses import BinaryCrossEntropy, CrossEntropy
from hexavit.training.objectives.objective import Objective

Loader = DataLoader[tuple[Tensor, int]]


class Requests(NamedTuple):
    """What a process asks for between two steps. The flags are OR-reduced over ranks, so that all act at the same step.

    Attributes:
        interrupt: it received SIGINT.
        terminate: it received SIGTERM.
        save: a checkpoint is due.
    """

    interrupt: bool = False
    terminate: bool = False
    save: bool = False


class TrainingLoop:
    """Trains a model from :attr:`state` to the last epoch, and writes the run folder.

    All randomness of a step is a function of the seed, the epoch and the step, so a resumed run equals one that was not
    interrupted.

    Args:
        fabric: device, precision and processes; launched.
        model: from images (B, C, H, W) to logits (B, K).
        config: the settings.
        objective: from the model and a batch to the loss.
        num_classes: K.
        train_loader: batches of (images, target), this process's share of each.
        val_loader: batches of (images, labels).
        run: the run folder.
        listeners: informed of the progress, on the first process.

    Attributes:
        state: position in the run.
        history: one :data:`Row` per finished epoch: ``epoch`` (from 1), ``step``, ``learning_rate``, ``train_loss``,
            what the objective logs besides it (token labels: ``train_accuracy`` and ``train_token_accuracy``), the
            validation ``loss``, ``accuracy`` and ``top5`` (or ``map`` and ``f1``), ``micro_batch``,
            ``images_per_second`` and ``seconds`` (of the training steps).
        ema: the moving average of the weights, or None.
        thresholds: for each class the probability from which it is predicted, by the last validation; None for data
            with one class per image.
        saved: position of the newest checkpoint.
    """

    def __init__(
        self,
        fabric: Fabric,
        model: nn.Module,
        config: TrainConfig,
        objective: Objective,
        num_classes: int,
        train_loader: Loader,
        val_loader: Loader,
        run: Run,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self.fabric, self.config, self.run, self.listeners = fabric, config, run, listeners
        self.processes = Processes.current()
        self.train_loader, self.val_loader = train_loader, val_loader
        self.model = model
        freeze(model, config.freeze)
        if config.grad_checkpointing:
            cast("Any", model).set_grad_checkpointing()
        if config.head_precision == "float32":
            compute_in_float32(cast("Any", model).head)
        model.to(fabric.device)
        self.ema = self._average() if config.ema else None
        compiled = cast("nn.Module", torch.compile(model)) if config.compile else model
        if config.shard:  # the optimizer is of the split weights
            self.module = fabric.setup_module(compiled)
            self.optimizer: Any = fabric.setup_optimizers(make_optimizer(model, config))
        else:
            self.module, self.optimizer = fabric.setup(compiled, make_optimizer(model, config))
        self.objective = objective.to(fabric.device)
        multilabel = isinstance(objective.base, BinaryCrossEntropy)
        self.validation_loss = BinaryCrossEntropy() if multilabel else CrossEntropy()
        self.accuracies = (MultilabelMetrics() if multilabel else accuracies(num_classes)).to(fabric.device)
        self.thresholds: list[float] | None = None
        self.state = TrainState()
        self.history: list[Row] = []
        self.saved: TrainState | None = None
        self.writer = RunWriter(run)
        self.signals = SignalListener(self._announce_timeout, lambda: getattr(fabric.strategy.launcher, "procs", []))
        self._next_save = time.monotonic() + config.save_every
        self._agreed = Requests()
        self._sums: dict[str, float] = {}

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch."""
        return len(self.train_loader)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return total_steps(self.config, self.steps_per_epoch)

    @property
    def steps(self) -> int:
        """Steps taken since the start of the run."""
        return self.state.epoch * self.steps_per_epoch + self.state.step

    @property
    def micro_batch(self) -> int:
        """Images in one forward pass on one device, at most."""
        share = largest_share(self.config.batch_size, self.processes)
        return min(self.config.micro_batch or share, share)

    @property
    def evaluated_model(self) -> nn.Module:
        """The model that is validated and saved: the moving average, if there is one."""
        return self.model if self.ema is None else cast("nn.Module", self.ema.module)

    @property
    def finished(self) -> bool:
        """Whether the last epoch is done, or ``patience`` epochs brought no better validation accuracy."""
        epochs = total_epochs(self.config, self.steps_per_epoch)
        return self.state.epoch >= epochs or stopped_early(self.history, self.config.patience)

    def _average(self) -> ModelEmaV3:
        """A moving average that begins with the model's weights, split over the processes if the model will be."""
        warmup, split = self.config.ema_warmup, self.config.shard
        ema = ModelEmaV3(self.model, self.config.ema, use_warmup=warmup, foreach=not split).requires_grad_(False)
        if split:
            shard(cast("nn.Module", ema.module), cast("Any", self.fabric.strategy).device_mesh)
        return ema

    def fit(self) -> None:
        """Train, validate and save until :attr:`finished`.

        Raises:
            Interrupted: after SIGINT or SIGTERM, once the checkpoint is written.
            NotFiniteError: a loss or gradient is not finite; the checkpoint is of the state before that step.
            RunError: a file cannot be written, or the device is out of memory.
        """
        self.signals.start()
        failed = True
        try:
            if self.processes.rank == 0:
                self.writer.start(self.history)
            for listener in self.listeners:
                listener.on_start(self.state, self.steps_per_epoch, self.total_steps / self.steps_per_epoch)
            while not self.finished:
                self.train_epoch()
                self.end_epoch(self.validate())
            failed = False
        except NotFiniteError:
            self.save_checkpoint()
            raise
        finally:
            self.signals.stop()
            for listener in self.listeners:
                listener.on_end(failed=failed)
            self.writer.close()

    def train_epoch(self) -> None:
        """Take the remaining steps of the current epoch."""
        self.module.train()
        for stage in frozen_stages(self.model, self.config.freeze):
            stage.eval()  # frozen stages keep their running statistics and have no drop path
        cast("Any", self.train_loader.batch_sampler).sampler.set_epoch(self.state.epoch)
        start = time.perf_counter()
        for images, target in islice(self.train_loader, self.total_steps - self.steps):
            loss, count = self.training_step(*self.fabric.to_device((images, target)))
            seconds = time.perf_counter() - start
            self.state.add(loss, count, seconds, self._sums)
            for listener in self.listeners:
                listener.on_step(self.state, loss, seconds)
            if self._agreed.save:
                self.save_checkpoint()
            self._stop_if_requested()
            start = time.perf_counter()

    def training_step(self, images: Tensor, target: Any) -> tuple[float, int]:
        """Update the weights once.

        Args:
            images: (n, C, H, W), this process's share of the batch.
            target: what the data gives with them.

        Returns:
            The mean loss and the number of images of the whole batch.
        """
        images, target = self.mix(images, target)
        norms = batch_norm_state(self.model)
        self.optimizer.zero_grad()
        torch.manual_seed(derive(self.config.seed, "draws", self.state.epoch, self.state.step, self.processes.rank))
        loss_sum = accumulate_gradients(
            self.fabric,
            self.module,
            images,
            target,
            loss_of=self.loss,
            batch_size=self.config.batch_size,
            micro_batch=self.config.micro_batch,
            processes=self.processes,
        )
        loss, count = self._agree(loss_sum, len(images), self.objective.take_sums())
        if not math.isfinite(loss):
            restore(norms)
            raise NotFiniteError("loss", loss, images, target, self.state)
        max_norm = self.config.clip_grad or math.inf
        clipped = self.fabric.clip_gradients(self.module, self.optimizer, max_norm=max_norm, error_if_nonfinite=False)
        norm = float(gathered(clipped))
        # With float16 the scaler skips such a step, and lowers the loss scale.
        if self.config.precision != "float16" and not math.isfinite(norm):
            restore(norms)
            raise NotFiniteError("norm of the gradient", norm, images, target, self.state)
        self.update_weights()
        return loss, count

    def mix(self, images: Tensor, target: Any) -> tuple[Tensor, Tensor]:
        """This process's images and targets, mixed (Mixup, CutMix) where the settings say so."""
        if self.objective.mixture is None:
            return self.objective.mixed(images, target)
        # All processes draw the same mixture. Before its share each has the image that is mixed with the first one.
        torch.manual_seed(derive(self.config.seed, "step", self.state.epoch, self.state.step))
        images, target = self.objective.mixed(images, target)
        return (images[1:], target[1:]) if self.processes.world > 1 else (images, target)

    def loss(self, images: Tensor, target: Tensor) -> Tensor:
        """Mean loss of (mixed) images."""
        return self.objective.loss(self.module, images, target)

    def update_weights(self) -> None:
        """Apply the gradients with the learning rate of the current step, and update the moving average."""
        set_learning_rate(self.optimizer, scheduled_factor(self.steps, self.config, self.steps_per_epoch))
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update(self.model, step=self.steps + 1)

    @torch.no_grad()  # not inference_mode, in which split weights cannot be gathered
    def validate(self) -> dict[str, float]:
        """Validation ``loss``, ``accuracy`` and, with more than five classes, ``top5``, or ``map`` and ``f1``.

        Sets :attr:`thresholds` where images may have several classes.
        """
        model = self.evaluated_model.eval()
        self.accuracies.reset()
        sums = [0.0, 0.0]  # of losses and images
        for batch in self.val_loader:
            loss, images = self.validation_step(model, *self.fabric.to_device(batch))
            sums = [sums[0] + loss, sums[1] + images]
            self._agree(0.0, 1)
            self._stop_if_requested()
        total, count = self.processes.total(sums, self.fabric.device)
        computed: dict[str, Tensor] = dict(self.accuracies.compute())
        if (thresholds := computed.pop("thresholds", None)) is not None:
            self.thresholds = thresholds.tolist()
        return {
            "loss": figure(torch.tensor(total / count)),
            **{name: figure(value) for name, value in computed.items()},
        }

    def validation_step(self, model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, int]:
        """Add a batch to the accuracies; returns the sum of its losses and the number of its images."""
        counted, total = is_counted(labels), 0.0
        if not self.config.shard:
            images, labels, counted = images[counted], labels[counted], counted[counted]
        for some in self._chunks(len(labels)):
            with self.fabric.autocast():
                logits = model(images[some] if len(labels[some]) else images[:1])[: len(labels[some])]
            logits, their = logits[counted[some]], labels[some][counted[some]]
            if len(their):
                total += float(self.validation_loss(logits, their)) * len(their)
                self.accuracies.update(logits, their)
        return total, int(counted.sum())

    def _chunks(self, count: int) -> list[slice]:
        """Parts of ``count`` images that are validated at once: equally many in processes that split the weights."""
        size = self.config.micro_batch or count or 1
        parts = -(-count // size)
        if self.config.shard:
            ranks = range(self.processes.world)
            parts = round(
                max(self.processes.total([parts * (self.processes.rank == r) for r in ranks], self.fabric.device))
            )
        return [slice(part * size, (part + 1) * size) for part in range(parts)]

    def end_epoch(self, metrics: dict[str, float]) -> None:
        """Write the files of the finished epoch and a checkpoint from which the next one starts."""
        factor = scheduled_factor(self.steps, self.config, self.steps_per_epoch)
        row: Row = {
            "epoch": self.state.epoch + 1,
            "step": self.steps,
            "learning_rate": self.optimizer.param_groups[0]["initial_lr"] * factor,
            "train_loss": self.state.mean_loss,
            **self.state.means,
            **metrics,
            "micro_batch": self.micro_batch,
            "images_per_second": rounded(self.state.images_per_second),
            "seconds": rounded(self.state.seconds),
        }
        self.history.append(row)
        weights = gathered(self.evaluated_model.state_dict())
        if self.processes.rank == 0:
            self.writer.write(self.history, weights, self.thresholds)
        self.state.next_epoch()
        self.save_checkpoint()
        for listener in self.listeners:
            listener.on_epoch(row)

    def save_checkpoint(self) -> None:
        """Write the state of the run; only the first process writes."""
        if self.config.shard or self.processes.rank == 0:
            state = self.state_dict()  # all processes gather it where they split it
            if self.processes.rank == 0:
                write_checkpoint(self.run.checkpoint, state)
        self.saved = replace(self.state)
        self._next_save = time.monotonic() + self.config.save_every

    def state_dict(self) -> Checkpoint:
        """All that training continues from."""
        return {
            "train_state": self.state.as_dict(),
            "history": self.history,
            "model": gathered(self.model.state_dict()),
            "ema": None if self.ema is None else gathered(self.ema.module.state_dict()),
            "optimizer": gathered(self.optimizer.optimizer.state_dict()),
            "precision": self.fabric.strategy.precision.state_dict(),
        }

    def load_state_dict(self, checkpoint: Checkpoint) -> None:
        """Continue from :meth:`state_dict`."""
        self.state = TrainState(**checkpoint["train_state"])
        self.saved = replace(self.state)
        self.history = checkpoint["history"]
        self.model.load_state_dict(split_weights(checkpoint["model"], self.model))
        if self.ema is not None:
            self.ema.module.load_state_dict(split_weights(checkpoint["ema"], cast("nn.Module", self.ema.module)))
        self.optimizer.load_state_dict(split_optimizer(checkpoint["optimizer"], self.optimizer.optimizer))
        self.fabric.strategy.precision.load_state_dict(checkpoint["precision"])

    def _agree(self, loss: float, images: int, sums: Sequence[float] = ()) -> tuple[float, int]:
        """The mean loss and the number of images over all processes; also reduces their :class:`Requests` and sums."""
        received = self.signals.received
        due = self.processes.rank == 0 and time.monotonic() >= self._next_save
        requests = Requests(received == signal.SIGINT, received == signal.SIGTERM, due)
        total, count, *others = self.processes.total([loss, images, *requests, *sums], self.fabric.device)
        self._agreed = Requests(*map(bool, others[: len(requests)]))
        self._sums = dict(zip(self.objective.shares, others[len(requests) :], strict=False))
        return total / count, round(count)

    def _stop_if_requested(self) -> None:
        if self._agreed.interrupt or self._agreed.terminate:
            if self.saved != self.state:
                self.save_checkpoint()
            raise Interrupted(signal.SIGTERM if self._agreed.terminate else signal.SIGINT)

    def _announce_timeout(self) -> None:
        if self.processes.rank == 0:
            resume = f"--resume continues {self.saved}" if self.saved else "there is no checkpoint yet"
            print(f"stopped within a step that takes too long; {resume}", flush=True)


def rounded(value: float) -> float:
    """A measured time or rate with six significant digits."""
    return float(f"{value:.6g}")
