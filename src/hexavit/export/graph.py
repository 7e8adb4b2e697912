"""The module that is exported: a copy of a model in the form that engines run fastest."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from hexavit.errors import HexavitError
from hexavit.export.cpu import inference_copy
from hexavit.export.fast_modules import FixedBias, folded, with_fixed_bias, with_silu
from hexavit.export.last_block import compute_extra_alone
from hexavit.export.resizing import GraphPreprocessing
from hexavit.network.backbone import Backbone
from hexavit.parts.contract import Size

_LARGEST_BIAS = 2**21
"""Values of a position bias that is stored as computed: 8 MiB."""
_HALF = 65504.0
"""The largest number in float16."""


class Graph(nn.Module):
    """What an exported file computes.

    Shapes: (N, C, H, W), or bytes (N, H, W, C) with preprocessing, to logits (N, K) or features (N, D).

    Args:
        model: in the form for engines.
        features: whether the output is the classifier's input instead of the logits.
        preprocessing: applied to the image; None for an image that is normalised.
    """

    def __init__(self, model: Backbone, features: bool, preprocessing: GraphPreprocessing | None) -> None:
        super().__init__()
        self.model, self.features, self.preprocessing = model, features, preprocessing

    def forward(self, image: Tensor) -> Tensor:
        """The output."""
        if self.preprocessing is not None:
            image = self.preprocessing(image)
        if self.features:
            return self.model.forward_head(self.model.forward_features(image), pre_logits=True)
        logits: Tensor = self.model(image)
        return logits


class _Widened(nn.Module):
    """A parametrization: a weight kept in float16 that is used in float32."""

    def forward(self, weight: Tensor) -> Tensor:
        """The weight in float32."""
        return weight.float()


def with_half_weights(model: nn.Module) -> None:
    """Keep matrices and kernels in float16, in place. They become float32 where they are used; biases and norms, which
    are small and need their precision more, stay as they are.

    Raises:
        HexavitError: float16 cannot hold a weight.
    """
    for path, module in list(model.named_modules()):
        for name, weight in list(module.named_parameters(recurse=False)):
            if weight.ndim < 2 or weight.dtype != torch.float32:
                continue
            if (largest := float(weight.abs().max())) > _HALF:
                raise HexavitError(
                    f"{path}.{name} holds {largest:g}, and float16 at most {_HALF:g}: export without half"
                )
            register_parametrization(module, name, _Widened())
            module.parametrizations[name].original = nn.Parameter(weight.half(), requires_grad=False)


def at_size(model: Backbone, size: Size) -> Backbone:
    """A copy of a model in evaluation mode, in float32 on the CPU, for images of a size (H, W). It shares weights."""
    copied = inference_copy(model).to("cpu", torch.float32)
    if tuple(size) != tuple(model.architecture.img_size):
        copied.set_input_size(size)
    return copied


def for_engine(model: Backbone, *, dynamic_size: bool) -> Backbone:
    """A copy of a model of :func:`at_size` with batch norms folded, quick GELU as SiLU, position biases computed, and
    a last block that computes what the head reads. It shares weights.

    Args:
        model: for images of its architecture's size.
        dynamic_size: whether images of other sizes are computed; position biases then remain functions of it.
    """
    copied, architecture = inference_copy(model), model.architecture
    compute_extra_alone(copied)
    changes = [folded, with_silu] if dynamic_size else [folded, with_silu, with_fixed_bias]
    with torch.no_grad():
        for change in changes:
            for name, module in list(copied.named_modules()):
                if name and (faster := change(module)) is not None:
                    copied.set_submodule(name, faster)
        if not dynamic_size:
            copied(torch.zeros(1, architecture.in_chans, *architecture.img_size))  # computes the biases
            for name, module in list(copied.named_modules()):
                if isinstance(module, FixedBias) and module.values > _LARGEST_BIAS:
                    copied.set_submodule(name, module.part)
    return copied


def fixed_size_reason(model: nn.Module) -> str | None:
    """Why a graph of the model is right at one image size alone; None for a model that exports with any size."""
    for path, module in model.named_modules():
        if kept := getattr(module, "traced", ""):
            return f"a graph keeps of the size at which it was made: {kept} ({path}, {type(module).__name__})"
    return None
