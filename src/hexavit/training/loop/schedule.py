"""The learning-rate schedule: linear warm-up, then a cosine, steps, or a constant rate."""

from __future__ import annotations

import math

import torch

from hexavit.training.config import TrainConfig


def total_steps(config: TrainConfig, steps_per_epoch: int) -> int:
    """Steps of a run."""
    return config.epochs * steps_per_epoch if config.steps is None else config.steps


def total_epochs(config: TrainConfig, steps_per_epoch: int) -> int:
    """Epochs of a run; the last one may be shorter where ``steps`` is set."""
    return config.epochs if config.steps is None else math.ceil(config.steps / steps_per_epoch)


def scheduled_factor(step: int, config: TrainConfig, steps_per_epoch: int) -> float:
    """The learning rate at a step as a fraction of the highest.

    The warm-up rises linearly, from ``warmup_lr`` or from one step of it. Then:

    - ``cosine``: falls along half a cosine, to ``min_lr`` at the end of the run or at its ``cooldown_epochs``.
    - ``epoch_cosine``: the rate of timm's scheduler and of the code of DeiT, CvT, PVT, T2T-ViT, CaiT and LV-ViT: it
      changes once an epoch, and the cosine begins with the first epoch, so that the warm-up cuts its start off.
    - ``step``: is multiplied by ``decay_rate`` after every ``decay_epochs`` of the run, down to ``min_lr``.
    - ``constant``: stays.
    - ``exponential``: has no warm-up, and rises from ``warmup_lr`` to ``lr`` at the last step, as in a range test.

    Args:
        step: steps taken so far.
        config: the settings.
        steps_per_epoch: steps of an epoch.
    """
    total = total_steps(config, steps_per_epoch)
    if config.schedule == "exponential":
        return math.pow((config.warmup_lr or config.rate) / config.rate, 1 - step / max(1, total - 1))
    warmup = round(config.warmup_epochs * steps_per_epoch) if config.warmup_steps is None else config.warmup_steps
    warmup = min(total, warmup)
    floor = min(1.0, config.min_lr / config.rate)
    by_epoch = config.schedule == "epoch_cosine"
    at = step // steps_per_epoch * steps_per_epoch if by_epoch else step
    if at < warmup:
        if config.warmup_lr is None:
            return (at + 1) / warmup
        first = min(1.0, config.warmup_lr / config.rate)
        return first + (1 - first) * at / warmup
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "step":
        decays = step / steps_per_epoch // config.decay_epochs
        return max(floor, math.pow(config.decay_rate, decays))
    begin = 0 if by_epoch else warmup
    length = max(1, total - round(config.cooldown_epochs * steps_per_epoch) - begin)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, (at - begin) / length)))


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set the learning rate of each parameter group to ``factor`` times its ``initial_lr``."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
