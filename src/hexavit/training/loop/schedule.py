"""The learning-rate schedule: linear warm-up, then cosine decay."""

from __future__ import annotations

import math

import torch

from hexavit.training.config import TrainConfig


def warmup_cosine(step: int, *, warmup: int, total: int) -> float:
    """Factor of the highest learning rate at a step.

    Args:
        step: steps taken so far.
        warmup: steps over which the factor rises linearly from ``1 / warmup`` to 1.
        total: steps of the run; after the warm-up the factor falls to 0 along half a cosine.
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def scheduled_factor(step: int, config: TrainConfig, steps_per_epoch: int) -> float:
    """:func:`warmup_cosine` over the epochs of a run, ``warmup_epochs`` of them with a rising rate."""
    total = config.epochs * steps_per_epoch
    warmup = min(total, round(total * config.warmup_epochs / config.epochs))
    return warmup_cosine(step, warmup=warmup, total=total)


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set the learning rate of each parameter group to ``factor`` times its ``initial_lr``."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
