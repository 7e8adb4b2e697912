"""Class logits at every position of a classifier's last feature map, by the classifier itself.

A position's vector takes the place of a whole image: (B, C, h, w) becomes B h w maps of 1 x 1, which pass through what
the model does behind its features (pooling, norms, linears). ReLabel (Yun et al., CVPR 2021, section 3.1) and token
labeling (Jiang et al., NeurIPS 2021) do this with the last linear, as a convolution of 1 x 1.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any, cast

import torch
from torch import Tensor, nn

from hexavit.errors import HexavitError
from hexavit.inference.load_model import LoadedModel
from hexavit.network.backbone import Backbone
from hexavit.parts.heads import TokenLabelHead

Size = tuple[int, int]


class SpatialClassifier:
    """Images (B, C, H, W) to class logits at every position, (B, K, h, w).

    - hexavit: the image tokens of the last stage take the place of the class token or of the mean that the head
      classifies; the head `token_labels` has a classifier of its own for them.
    - timm: `forward_features`, then `forward_head` on every position.
    - torchvision: the output of the last module that gives a map, then the rest of the model on every position.

    Args:
        loaded: the classifier.
        size: height and width of the images; by default its own.

    Raises:
        HexavitError: it has no map, or it classifies the whole map at once (VGG, AlexNet).
    """

    def __init__(self, loaded: LoadedModel, size: Size | None = None) -> None:
        self.model: Any = loaded.model
        name, size = loaded.source or loaded.architecture_name, size or loaded.input_spec.size
        try:
            if size != loaded.input_spec.size and hasattr(self.model, "set_input_size"):
                cast("Any", self.model).set_input_size(size)
            self._compute = self._way(loaded)
            device: Any = next(self.model.parameters()).device
            with torch.no_grad():
                found = self._compute(torch.zeros(1, loaded.input_spec.channels, *size, device=device))
        except (RuntimeError, ValueError, AttributeError, TypeError, AssertionError) as error:
            reason = " ".join(str(error).split())[:200]
            raise HexavitError(f"{name}: this model has no class logits per position of a map ({reason})") from error
        self.grid: Size = (found.shape[2], found.shape[3])

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K, h, w)."""
        return self._compute(images).float()

    def _way(self, loaded: LoadedModel) -> Callable[[Tensor], Tensor]:
        if isinstance(self.model, Backbone):
            return self._of_hexavit
        if hasattr(self.model, "forward_features") and hasattr(self.model, "forward_head"):
            return self._of_timm
        self.module, self.extra = _last_map(self.model, loaded.input_spec.size, loaded.input_spec.channels)
        return self._of_torchvision

    def _of_hexavit(self, images: Tensor) -> Tensor:
        model = cast("Backbone", self.model)
        maps = model.forward_features(images, output_fmt="NCHW")
        rows = _positions(maps)[:, :, 0, 0]  # (B h w, C)
        if isinstance(model.head, TokenLabelHead):
            return _as_map(model.head.fc2(rows), maps)
        # The same vector as each extra token and as the only image token: the head reads one or the other.
        return _as_map(model.forward_head(rows[:, None].expand(-1, 1 + model.num_extra_tokens, -1)), maps)

    def _of_timm(self, images: Tensor) -> Tensor:
        found = self.model.forward_features(images)
        if found.ndim == 4 and found.shape[1] != self.model.num_features == found.shape[3]:  # (B, h, w, C)
            rows = found.flatten(0, 2)[:, None, None]
            return _as_map(self.model.forward_head(rows), found.permute(0, 3, 1, 2))
        if found.ndim == 4:
            return _as_map(self.model.forward_head(_positions(found)), found)
        extra = int(getattr(self.model, "num_prefix_tokens", 0))
        maps = _grid(found[:, extra:], images)
        rows = _positions(maps)[:, None, :, 0, 0]
        return _as_map(self.model.forward_head(rows.expand(-1, 1 + extra, -1)), maps)

    def _of_torchvision(self, images: Tensor) -> Tensor:
        maps: list[Tensor] = []

        def each_position(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            maps.append(output if output.ndim == 4 else _grid(output[:, self.extra :], images))
            rows = _positions(maps[0])
            return rows if output.ndim == 4 else rows[:, None, :, 0, 0].expand(-1, 1 + self.extra, -1)

        handle = self.module.register_forward_hook(each_position)
        try:
            logits: Tensor = self.model(images)
        finally:
            handle.remove()
        return _as_map(logits, maps[0])


def _positions(maps: Tensor) -> Tensor:
    """(B, C, h, w) to (B h w, C, 1, 1), row by row."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)[:, :, None, None]


def _as_map(logits: Tensor, like: Tensor) -> Tensor:
    """(B h w, K) to (B, K, h, w)."""
    batch, _, height, width = like.shape
    return logits.view(batch, height, width, -1).permute(0, 3, 1, 2)


def _grid(tokens: Tensor, images: Tensor) -> Tensor:
    """Tokens (B, N, C) to the map (B, C, h, w) of the images' aspect ratio."""
    height = round(sqrt(tokens.shape[1] * images.shape[2] / images.shape[3]))
    return tokens.reshape(len(tokens), height, tokens.shape[1] // height, -1).permute(0, 3, 1, 2)


@torch.no_grad()
def _last_map(model: nn.Module, size: Size, channels: int) -> tuple[nn.Module, int]:
    """The module that is the last to give a map of several positions, and the number of extra tokens in front of it."""
    found: list[tuple[nn.Module, torch.Size]] = []

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim in (3, 4) and output[0].numel() > output.shape[5 - output.ndim]:
            found.append((module, output.shape))

    handles = [each.register_forward_hook(note) for each in model.modules() if each is not model]
    try:
        model(torch.zeros(1, channels, *size, device=next(model.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise ValueError("it has no feature map")
    module, shape = found[-1]
    side = int(sqrt(shape[1]))
    return module, 0 if len(shape) == 4 or side * side == shape[1] else shape[1] - side * side
