"""Optimizers of timm's factory, with parameter groups by layer and weight decay; frozen stages."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, cast

import torch
from timm.models import group_parameters
from timm.optim import create_optimizer_v2, get_optimizer_info
from torch import nn

from hexavit.errors import HexavitError
from hexavit.training.config import TrainConfig

_FUSED = ("adam", "adamw", "momentum", "sgd")
"""Optimizers of PyTorch with a fused step: for 355 tensors on a CPU a tenth of the time of AdamW's plain step."""


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer of the settings over :func:`parameter_groups`.

    Raises:
        HexavitError: it does not take an option, needs a package that is missing, or needs second derivatives.
    """
    options = {name: _value(text) for name, _, text in (each.partition("=") for each in config.optimizer_options)}
    if get_optimizer_info(config.optimizer).second_order:
        raise HexavitError(
            f"optimizer {config.optimizer} needs second derivatives, which `hexavit train` does not have"
        )
    # Fused steps unscale the gradients themselves, so that they cannot be clipped before, and take no split weights.
    if config.optimizer in _FUSED and config.precision != "float16" and not config.shard and "foreach" not in options:
        options = {"fused": True, **options}
    try:
        return create_optimizer_v2(parameter_groups(model, config), config.optimizer, lr=config.rate, **options)
    except (TypeError, ValueError, AssertionError, ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or "an assertion of it fails"
        raise HexavitError(f"optimizer {config.optimizer} cannot be made: {reason}") from error


def _value(text: str) -> Any:
    """The value of an option: several numbers with commas between them, one, true, false, none, or text."""
    if "," in text:
        return tuple(_value(each) for each in text.strip("()[] ").split(","))
    words = {"true": True, "false": False, "none": None}
    if text.strip().lower() in words:
        return words[text.strip().lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """The trainable parameters, grouped by learning rate and weight decay.

    Layers are those of the model's ``group_matcher``: the stem, then every block. The last block has the learning rate
    ``lr``, and each earlier layer ``layer_decay`` times the rate of the next one (BEiT: Bao et al., ICLR 2022; BEiT and
    timm give ``lr`` to the head and ``layer_decay * lr`` to the last block). The final linear layers have
    ``head_lr * lr``. One-dimensional parameters and those of ``no_weight_decay`` have no weight decay.

    Returns:
        Groups with ``params``, ``lr``, ``initial_lr`` and ``weight_decay``. The highest rate of the body comes first.
    """
    described = cast("Any", model)
    layer_of = group_parameters(model, described.group_matcher(), reverse=True)
    heads = tuple(f"head.{name}." for name in getattr(described.head, "classifiers", ()))
    no_decay = described.no_weight_decay()
    last = max(layer for name, layer in layer_of.items() if not name.startswith(heads))
    groups: defaultdict[tuple[bool, float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        in_head = name.startswith(heads)
        scale = config.head_lr if in_head else config.layer_decay ** (last - layer_of[name])
        decay = 0.0 if parameter.ndim <= 1 or name in no_decay else config.weight_decay
        groups[in_head and scale != 1, -scale, decay].append(parameter)
    return [
        {"params": members, "lr": -scale * config.rate, "initial_lr": -scale * config.rate, "weight_decay": decay}
        for (_, scale, decay), members in sorted(groups.items(), key=lambda item: item[0])
    ]


def freeze(model: nn.Module, count: int) -> None:
    """Exclude the first ``count`` stages from training; -1 is all of them.

    Raises:
        HexavitError: the model has fewer stages.
    """
    stages = frozen_stages(model, count)
    if len(stages) < count:
        raise HexavitError(f"freeze is at most {len(stages)} for this model, the number of its stages, not {count}")
    for stage in stages:
        stage.requires_grad_(False)


def frozen_stages(model: nn.Module, count: int) -> list[nn.Module]:
    """The first ``count`` stages of a model; -1 is all of them."""
    stages = list(cast("Any", model).stages)
    return stages if count < 0 else stages[:count]
