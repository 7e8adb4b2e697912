"""Modules that give an image's tokens as a map (B, C, H, W), for tools that read a layer's output."""

from __future__ import annotations

from torch import Tensor, nn

from hexavit.parts.contract import Tokens


class FeatureMap(nn.Module):
    """The identity on a map (B, C, H, W) of image tokens, at a named place of a model.

    Hooks see what hooks on a convolution see, and the model goes on with the module's output, so that gradients pass
    through it: pytorch-grad-cam, captum's layer methods and the like need no reshaping. The model calls it once in a
    forward pass, and only while it has hooks, because joined tokens would be copied for it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return x

    def on(self, tokens: Tokens) -> Tokens:
        """The same tokens, through the module if it has hooks."""
        # PyTorch has no public question for this.
        hooked = self._forward_hooks or self._forward_pre_hooks or self._backward_hooks or self._backward_pre_hooks
        if not hooked or tokens.layout != "raster":
            return tokens
        out = tokens.with_image(self(tokens.map).permute(0, 2, 3, 1).flatten(1, 2))
        return out.join() if tokens.joined else out
