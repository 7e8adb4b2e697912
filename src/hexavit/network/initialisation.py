"""Starting weights, by scheme. Parts draw their own tables; a scheme draws linears, norms and class tokens."""

from __future__ import annotations

import math

import torch
from torch import nn

from hexavit.errors import ArchitectureError, nearest
from hexavit.parts.residual import Fixup

SCHEMES = ("trunc_normal", "xavier", "vit", "fan_out", "trunc_normal_convs", "default")


def initialise(model: nn.Module, scheme: str) -> None:
    """Draw a model's weights in place.

    `trunc_normal`: linears truncated normal 0.02 with zero bias, class tokens and the head's weight likewise, the
    head's bias and convolutions as PyTorch draws them (CvT's default; timm's for ViT but for the head's bias).
    `xavier`: the same with Xavier-uniform linears (CvT's INIT 'xavier').
    `vit`: ViT's JAX code: Xavier-uniform linears, feedforward biases normal 1e-6, class token zero, head's bias zero.
    `fan_out`: `trunc_normal`, and convolutions normal with variance 2 / (k^2 C_out / groups), biases zero (PVT v2,
    Twins). `trunc_normal_convs`: `trunc_normal`, and convolutions' weights truncated normal 0.02 (ResT).
    `default`: PyTorch's, with standard-normal class tokens (vit-pytorch's).

    Raises:
        ArchitectureError: an unknown scheme.
    """
    if scheme not in SCHEMES:
        raise ArchitectureError(f"there is no init {scheme!r}: {nearest(scheme, SCHEMES)}")
    for name, module in model.named_modules():
        token = getattr(module, "class_token", None)
        if token is not None and scheme != "vit":
            if scheme == "default":
                nn.init.normal_(token)
            else:
                nn.init.trunc_normal_(token, std=0.02)
        if isinstance(module, nn.Linear) and scheme != "default":
            if name in ("head.fc", "head.fc2"):
                initialise_classifier(module, scheme)
            else:
                _linear(module, scheme, 1e-6 if ".feedforward." in name else 0.0)
        if isinstance(module, nn.Conv2d):
            _convolution(module, scheme)


def initialise_classifier(linear: nn.Module, scheme: str) -> None:
    """Draw the last linear, if there is one, by a scheme of `initialise`."""
    if not isinstance(linear, nn.Linear) or scheme == "default":
        return
    if scheme == "vit":
        _linear(linear, scheme, 0.0)
    else:
        nn.init.trunc_normal_(linear.weight, std=0.02)
        if scheme == "fan_out" and linear.bias is not None:
            nn.init.zeros_(linear.bias)


def _convolution(conv: nn.Conv2d, scheme: str) -> None:
    if scheme == "trunc_normal_convs":
        nn.init.trunc_normal_(conv.weight, std=0.02)
    elif scheme == "fan_out":
        out, _, *kernel = conv.weight.shape
        nn.init.normal_(conv.weight, std=(2 * conv.groups / (out * math.prod(kernel))) ** 0.5)
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)


def _linear(linear: nn.Linear, scheme: str, vit_bias: float) -> None:
    if scheme in ("trunc_normal", "fan_out", "trunc_normal_convs"):
        nn.init.trunc_normal_(linear.weight, std=0.02)
    else:
        nn.init.xavier_uniform_(linear.weight)
    if linear.bias is not None:
        nn.init.normal_(linear.bias, std=vit_bias) if scheme == "vit" and vit_bias else nn.init.zeros_(linear.bias)


@torch.no_grad()
def initialise_branches(model: nn.Module) -> None:
    """Fixup's starting rule (Zhang et al., ICLR 2019, section 3) for the branches inside that residual, after a scheme.

    With L such branches: the last weights of each become zero, those before it are scaled by L^(-1 / (2 m - 2)), m the
    weights that a value passes in the branch. Every block then starts as the identity.
    """
    branches = [branch for module in model.modules() for branch in _fixed_up(module)]
    for branch in branches:
        held = {name: m for name, m in branch.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
        named = getattr(branch, "last", None)
        last = held.get(named) if named else next(reversed(held.values()), None)
        in_a_row = getattr(branch, "weights_in_a_row", 2)
        for layer in held.values():
            if layer is last:
                nn.init.zeros_(layer.weight)
            elif in_a_row > 1:
                layer.weight.mul_(len(branches) ** (-1 / (2 * in_a_row - 2)))


def _fixed_up(block: nn.Module) -> list[nn.Module]:
    """What stands inside a block's Fixup residuals."""
    kinds = ("attention", "feedforward")
    return [getattr(block, kind) for kind in kinds if isinstance(getattr(block, f"{kind}_residual", None), Fixup)]
