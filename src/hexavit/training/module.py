"""The Lightning module: one model, one objective, AdamW with a warm-up and a cosine."""

from __future__ import annotations

from typing import cast

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from hexavit.training.config import TrainConfig
from hexavit.training.lessons import Lesson
from hexavit.training.metrics import accuracies, mean_loss
from hexavit.training.objectives import CrossEntropy
from hexavit.training.optimisation import freeze, frozen_stages, make_optimizer, make_schedule
from hexavit.training.randomness import derive

Batch = tuple[Tensor, Tensor]


class Classifier(L.LightningModule):
    """Trains a model on (images, labels).

    It logs ``train_loss``, ``loss``, ``accuracy`` and ``top5`` once an epoch, the last three of the held-out images.

    Args:
        model: from images (B, C, H, W) to logits (B, K).
        config: the settings of the training.
        num_classes: K.
        lesson: from the model and a batch to the loss; by default the labels teach.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, num_classes: int, lesson: Lesson | None = None) -> None:
        super().__init__()
        self.model = model
        self.config = config
        freeze(model, config.freeze)
        self.lesson = lesson or Lesson(model, config, num_classes)
        self.held_out_objective = CrossEntropy()
        self.train_loss = mean_loss()
        self.loss = mean_loss()
        self.accuracies = accuracies(num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return cast("Tensor", self.model(images))

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Dropout, drop path and mixing draw from here: nothing to carry over an interruption.
        torch.manual_seed(derive(self.config.seed, "step", self.current_epoch, batch_idx))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, target = self.lesson.mixed(*batch)
        loss = self.lesson.loss(self.model, images, target)
        self.train_loss(loss, len(images))
        self.log("train_loss", self.train_loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, labels = batch
        logits = self(images)
        self.loss(self.held_out_objective(logits, labels), len(images))
        self.accuracies(logits, labels)
        self.log("loss", self.loss, on_step=False, on_epoch=True)
        self.log_dict(self.accuracies, on_step=False, on_epoch=True)

    def train(self, mode: bool = True) -> Classifier:
        super().train(mode)
        for stage in frozen_stages(self.model, self.config.freeze):
            stage.eval()  # neither running statistics nor drop path move what does not learn
        return self

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = make_optimizer(self.model, self.config)
        schedule = make_schedule(optimizer, self.config, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
