"""Weights, gradients and optimizer state split over the processes, with PyTorch's ``fully_shard`` (FSDP2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from hexavit.network.composition import Block


def shard(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Split the weights of a model over the processes of a mesh, in place; each block gathers its own when it runs."""
    processes = mesh["data_parallel"] if mesh.ndim > 1 else mesh
    for module in model.modules():
        if isinstance(module, Block):
            fully_shard(module, mesh=processes)
    fully_shard(model, mesh=processes)
    return model


def gathered(state: Any) -> Any:
    """A state dict with whole tensors instead of split ones. All processes must call it."""
    if isinstance(state, DTensor):
        return state.full_tensor()
    if isinstance(state, Mapping):
        return {name: gathered(value) for name, value in state.items()}
    return [gathered(value) for value in state] if isinstance(state, list) else state


def split_weights(whole: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The weights of a model, split as it is. All processes must call it with the same tensors."""
    return {name: _split_as(whole[name], like) for name, like in model.state_dict().items()}


def split_optimizer(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The state dict of an optimizer, each tensor split as its weight. All processes must call it."""
    weights: Sequence[Tensor] = [weight for group in optimizer.param_groups for weight in group["params"]]
    split = {
        number: {
            name: _split_as(value, weights[number]) if getattr(value, "shape", None) == weights[number].shape else value
            for name, value in values.items()
        }
        for number, values in state["state"].items()
    }
    return {**state, "state": split}


def _split_as(whole: Tensor, like: Tensor) -> Tensor:
    if not isinstance(like, DTensor):
        return whole
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements)
