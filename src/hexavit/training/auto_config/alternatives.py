"""Shorter alternatives to a long run, estimated from its measured speed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hexavit.parts.contract import Size
from hexavit.training.auto_config.fact_types import SMALL, Candidate
from hexavit.training.auto_config.rules import HOUR, SIDES
from hexavit.training.config import TrainConfig


class Alternative(NamedTuple):
    """Options of a shorter run, and its estimated time in seconds."""

    option: str
    seconds: float


def shorter_alternatives(
    config: TrainConfig, seconds: float, size: Size, macs: float, models: Sequence[Candidate]
) -> list[Alternative]:
    """Changes that bring a run below an hour, or nearest to it: fewer epochs, smaller images, another model.

    Args:
        config: settings of the run.
        seconds: its time, extrapolated from measured steps.
        size: its image size.
        macs: multiply-adds of its model for one image.
        models: models that may be chosen instead.
    """
    found = []
    epochs = int(0.95 * config.epochs * HOUR / seconds)
    if epochs >= 3 and config.steps is None:
        warmup = config.warmup_epochs * epochs / config.epochs
        option = f"--epochs {epochs} --warmup-epochs {warmup:.2g}"
        found.append(Alternative(option, seconds * epochs / config.epochs))
    sides = [side for side in SIDES if side < min(size)]
    by_side = [Alternative(f"--img-size {side}", seconds * side * side / (size[0] * size[1])) for side in sides]
    if by_side:
        found.append(next((each for each in by_side if each.seconds <= HOUR), by_side[-1]))
    area = size[0] * size[1]
    others = [(each, seconds * each.macs * area / each.side**2 / macs) for each in models if each.side > SMALL]
    others = [(each, time) for each, time in others if 0 < time < seconds / 1.5]
    if others and min(size) > SMALL and config.start is None and not config.overrides:
        within = [(each, time) for each, time in others if time <= HOUR]
        best = max(within, key=lambda o: (o[0].top1, o[0].name)) if within else min(others, key=lambda o: o[1])
        found.append(Alternative(f"--model {best[0].name}", best[1]))
    return found
