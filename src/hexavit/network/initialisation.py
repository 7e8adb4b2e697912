"""Starting weights, by scheme. Parts initialise their own tables; a scheme initialises layers and class tokens."""

from __future__ import annotations

import math

from torch import nn

from hexavit.errors import ArchitectureError, nearest
from hexavit.network.block import Block
from hexavit.parts.layers import HeadMixing
from hexavit.parts.residual import Residual

SCHEMES = (
    "trunc_normal",
    "xavier",
    "vit",
    "fan_out",
    "trunc_normal_convs",
    "trunc_normal_all",
    "constant_biases",
    "default",
)


def initialise(model: nn.Module, scheme: str) -> None:
    """Initialise a model's weights in place.

    Args:
        model: the model.
        scheme: one of these.
            `trunc_normal`: linears, class tokens and the classifier's weight truncated normal with std 0.02, biases of
            linears 0; the classifier's bias and convolutions as PyTorch does (CvT's default; timm's for ViT, but for
            the classifier's bias).
            `xavier`: as `trunc_normal`, with Xavier-uniform linears (CvT's INIT 'xavier').
            `vit`: ViT's JAX code: Xavier-uniform linears, feedforward biases normal with std 1e-6, class token and
            the classifier's bias 0.
            `fan_out`: as `trunc_normal`, with convolutions normal of variance 2 / (k^2 C_out / groups) and bias 0
            (PVT v2, Twins).
            `trunc_normal_convs`: as `trunc_normal`, with weights of convolutions truncated normal, std 0.02 (ResT).
            `trunc_normal_all`: as `trunc_normal_convs`, with all biases of linears and convolutions 0 (Shuffle).
            `constant_biases`: as `trunc_normal_convs`, with the biases of linears and of LayerNorms 0.02 (MViT).
            `default`: as PyTorch does, with standard-normal class tokens (vit-pytorch).

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
        if isinstance(module, nn.Linear | HeadMixing) and scheme != "default":
            if name in ("head.fc", "head.fc2"):
                initialise_classifier(module, scheme)
            else:
                _linear(module, scheme, 1e-6 if ".feedforward." in name else 0.0)
        if isinstance(module, nn.Conv2d):
            _convolution(module, scheme)
        biased = isinstance(module, nn.Linear | HeadMixing | nn.LayerNorm) and module.bias is not None
        if scheme == "constant_biases" and biased:
            nn.init.constant_(module.bias, 0.02)
    for module in model.modules():
        for name in getattr(module, "starts_at_zero", ()):
            for weight in getattr(module, name, nn.Identity()).parameters():
                nn.init.zeros_(weight)


def initialise_classifier(linear: nn.Module, scheme: str) -> None:
    """Initialise a classifier, if it is a linear, by a scheme of `initialise`."""
    if not isinstance(linear, nn.Linear) or scheme == "default":
        return
    if scheme == "vit":
        _linear(linear, scheme, 0.0)
    else:
        nn.init.trunc_normal_(linear.weight, std=0.02)
        if scheme in ("fan_out", "trunc_normal_all", "constant_biases") and linear.bias is not None:
            nn.init.constant_(linear.bias, 0.02 if scheme == "constant_biases" else 0.0)


def _convolution(conv: nn.Conv2d, scheme: str) -> None:
    if scheme in ("trunc_normal_convs", "trunc_normal_all", "constant_biases"):
        nn.init.trunc_normal_(conv.weight, std=0.02)
    elif scheme == "fan_out":
        out, _, *kernel = conv.weight.shape
        nn.init.normal_(conv.weight, std=(2 * conv.groups / (out * math.prod(kernel))) ** 0.5)
    if scheme in ("fan_out", "trunc_normal_all") and conv.bias is not None:
        nn.init.zeros_(conv.bias)


def _linear(linear: nn.Linear | HeadMixing, scheme: str, vit_bias: float) -> None:
    if scheme in ("trunc_normal", "fan_out", "trunc_normal_convs", "trunc_normal_all", "constant_biases"):
        nn.init.trunc_normal_(linear.weight, std=0.02)
    else:
        nn.init.xavier_uniform_(linear.weight)
    if linear.bias is not None:
        nn.init.normal_(linear.bias, std=vit_bias) if scheme == "vit" and vit_bias else nn.init.zeros_(linear.bias)


def initialise_branches(model: nn.Module) -> None:
    """Let each residual of a model change the starting weights of its branch, after a scheme (Fixup does)."""
    pairs = [pair for module in model.modules() for pair in _branches(module)]
    for residual, branch in pairs:
        residual.init_branch(branch, sum(type(other) is type(residual) for other, _ in pairs))


def _branches(block: nn.Module) -> list[tuple[Residual, nn.Module]]:
    """The residuals of a block with what is inside each."""
    pairs = [(branch.residual, branch.part) for branch in block.branches] if isinstance(block, Block) else []
    return [(residual, branch) for residual, branch in pairs if isinstance(residual, Residual)]
