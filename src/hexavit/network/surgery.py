"""Changing a built model: it takes what is new from a fresh one, and all that both have keeps its state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hexavit.network.stage import StageModule
from hexavit.parts.positions import LearnedPosition

_STATE = {"training", "grad_checkpointing"}


def take_in(model: nn.Module, fresh: nn.Module, like: Tensor) -> None:
    """Give a model what a fresh one has and it has not, and remove what only it has.

    A module stays, with its mode, dtype, device, hooks and `requires_grad` flags, if its class, its options and the
    shapes of its own weights are those of the fresh one. A module that takes the place of another takes over its mode
    and what it can of its weights.

    Args:
        model: changed in place.
        fresh: built from the new architecture; its modules are used.
        like: a tensor with the dtype and device of weights that have no predecessor.
    """
    children = dict(fresh.named_children())
    for name, _ in list(model.named_children()):
        if name not in children:
            setattr(model, name, None)
    for name, new in children.items():
        held = getattr(model, name, None)
        if isinstance(held, nn.Module) and _alike(held, new):
            take_in(held, new, like)
            continue
        reference = next(held.parameters(), like) if isinstance(held, nn.Module) else like
        new.to(reference.device, reference.dtype).train(model.training)
        if isinstance(held, nn.Module):
            _inherit(new, held, like)
        setattr(model, name, new)
    if isinstance(model, StageModule) and isinstance(fresh, StageModule):
        model.split, model.collects = fresh.split, fresh.collects
        if fresh.class_token is None or model.class_token is None:
            token = fresh.class_token
            model.class_token = None if token is None else nn.Parameter(token.detach().to(like))


@torch.no_grad()
def _inherit(new: nn.Module, held: nn.Module, like: Tensor) -> None:
    """Take over the mode, the equal parts and the weights of a module whose place is taken."""
    new.training = held.training
    if isinstance(new, LearnedPosition) and isinstance(held, LearnedPosition):
        new.adopt(held)
    for name, child in new.named_children():
        before = getattr(held, name, None)
        if isinstance(before, nn.Module) and _alike(before, child):
            take_in(before, child, like)
            setattr(new, name, before)
        elif isinstance(before, nn.Module):
            _inherit(child, before, like)
    for name, parameter in new.named_parameters(recurse=False):
        before = getattr(held, name, None)
        if isinstance(before, nn.Parameter):
            parameter.requires_grad_(before.requires_grad)
            if parameter.shape == before.shape:
                parameter.copy_(before)


def _alike(held: nn.Module, new: nn.Module) -> bool:
    """Whether two modules have one class, equal options, and own weights of equal shapes."""
    if isinstance(new, StageModule | nn.ModuleList | nn.ModuleDict):
        return True
    return type(held) is type(new) and _signature(held) == _signature(new)


def _signature(module: nn.Module) -> tuple[dict[str, Any], dict[str, torch.Size]]:
    """The attributes of a module that are plain values, and the shapes of its own weights."""
    plain = (bool, int, float, str, tuple)
    values = {k: v for k, v in vars(module).items() if k[0] != "_" and k not in _STATE and isinstance(v, plain)}
    own = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    return values, {name: tensor.shape for name, tensor in own}
