"""What learns, and how fast: AdamW with groups by layer and by decay, a warm-up and a cosine, stages that stay."""

from __future__ import annotations

import math
from collections import defaultdict
from functools import partial
from typing import Any, cast

import torch
from timm.models import group_parameters
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from hexavit.errors import HexavitError
from hexavit.models.registry import resolve
from hexavit.training.config import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over :func:`parameter_groups`."""
    return torch.optim.AdamW(parameter_groups(model, config), lr=config.lr)


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """The parameters that learn, by learning rate and weight decay; the highest rate of the body comes first.

    The layers are those of the model's ``group_matcher``: stem, then every block. The last block has ``lr``, each layer
    before it ``layer_decay`` times the rate of the next (BEiT: Bao et al., ICLR 2022; there and in timm the head has
    ``lr`` and the last block one factor less); the last linears have ``head_lr`` times ``lr``. Parameters of one
    dimension and those of ``no_weight_decay`` do not decay.
    """
    described = cast("Any", model)
    layer_of = group_parameters(model, described.group_matcher(), reverse=True)
    heads = tuple(f"head.{name}." for name in getattr(described.head, "classifiers", ()))
    never = described.no_weight_decay()
    last = max(layer for name, layer in layer_of.items() if not name.startswith(heads))
    groups: defaultdict[tuple[bool, float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        in_head = name.startswith(heads)
        scale = config.head_lr if in_head else config.layer_decay ** (last - layer_of[name])
        decay = 0.0 if parameter.ndim <= 1 or name in never else config.weight_decay
        groups[in_head and scale != 1, -scale, decay].append(parameter)
    ordered = sorted(groups.items(), key=lambda item: item[0])
    return [
        {"params": members, "lr": -scale * config.lr, "weight_decay": decay} for (_, scale, decay), members in ordered
    ]


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainConfig, total: int) -> LambdaLR:
    """A warm-up of ``warmup_epochs``, then a cosine, over ``total`` steps."""
    warmup = min(total, round(total * config.warmup_epochs / config.epochs))
    return LambdaLR(optimizer, partial(warmup_cosine, warmup=warmup, total=total))


def warmup_cosine(step: int, *, warmup: int, total: int) -> float:
    """Share of the highest learning rate at a step: a line up to 1 over ``warmup`` steps, then half a cosine to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def freeze(model: nn.Module, count: int) -> None:
    """Make the first ``count`` stages stay as they are.

    Raises:
        HexavitError: the model has fewer.
    """
    if count:
        stages = cast("Any", model).stages
        if count > len(stages):
            raise HexavitError(f"freeze is at most {len(stages)} for this model, the number of its stages, not {count}")
        for stage in stages[:count]:
            stage.requires_grad_(False)


def frozen_stages(model: nn.Module, count: int) -> list[nn.Module]:
    """The first ``count`` stages, for :func:`freeze` to be asked of."""
    return list(cast("Any", model).stages[:count]) if count else []


def drop_path_edits(config: TrainConfig) -> tuple[str, ...]:
    """The setting ``drop_path`` as overrides: where the model drops already, else everywhere."""
    if config.drop_path is None:
        return ()
    stages = resolve(config.model).stages
    dropping = [number for number, stage in enumerate(stages) if stage.drop_path] or range(len(stages))
    return tuple(f"stages.{number}.drop_path={config.drop_path}" for number in dropping)
