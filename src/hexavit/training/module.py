"""The Lightning module: one model, one objective, AdamW with a warm-up and a cosine."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchvision.transforms import v2

from hexavit.training.config import TrainConfig
from hexavit.training.metrics import accuracies, mean_loss
from hexavit.training.objectives import CrossEntropy, EveryAnswer
from hexavit.training.randomness import derive

Batch = tuple[Tensor, Tensor]


class Classifier(L.LightningModule):
    """Trains a model on (images, labels).

    It logs ``train_loss``, ``loss``, ``accuracy`` and ``top5`` once an epoch, the last three of the held-out images.

    Args:
        model: from images (B, C, H, W) to logits (B, K).
        config: the settings of the training.
        num_classes: K.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, num_classes: int) -> None:
        super().__init__()
        self.model = model
        self.config = config
        several = len(getattr(getattr(model, "head", None), "classifiers", ())) > 1
        self.objective = (EveryAnswer if several else CrossEntropy)(config.label_smoothing)
        self.held_out_objective = CrossEntropy()
        self.mixture = _mixture(config, num_classes)
        self.train_loss = mean_loss()
        self.loss = mean_loss()
        self.accuracies = accuracies(num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return cast("Tensor", self.model(images))

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Dropout, drop path and mixing draw from here: nothing to carry over an interruption.
        torch.manual_seed(derive(self.config.seed, "step", self.current_epoch, batch_idx))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, target = batch if self.mixture is None else self.mixture(*batch)
        loss = cast("Tensor", self.objective(self(images), target))
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

    def configure_optimizers(self) -> OptimizerLRScheduler:
        never = cast("Any", self.model).no_weight_decay()
        groups = param_groups_weight_decay(self.model, self.config.weight_decay, no_weight_decay_list=never)
        optimizer = torch.optim.AdamW(groups, lr=self.config.lr)
        total = int(self.trainer.estimated_stepping_batches)
        warmup = min(total, round(total * self.config.warmup_epochs / self.config.epochs))
        schedule = LambdaLR(optimizer, partial(warmup_cosine, warmup=warmup, total=total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def warmup_cosine(step: int, *, warmup: int, total: int) -> float:
    """Share of the highest learning rate at a step: a line up to 1 over ``warmup`` steps, then half a cosine to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def _mixture(config: TrainConfig, num_classes: int) -> v2.Transform | None:
    """Mixup, CutMix, either by the toss of a coin, or neither."""
    kinds = [
        kind(alpha=alpha, num_classes=num_classes)
        for kind, alpha in ((v2.MixUp, config.mixup), (v2.CutMix, config.cutmix))
        if alpha > 0
    ]
    return v2.RandomChoice(kinds) if kinds else None
