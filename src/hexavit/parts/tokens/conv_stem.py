"""Convolutional stems: convolutions before the tokenising one."""

from __future__ import annotations

import torch
from torch import nn

from hexavit.errors import ArchitectureError
from hexavit.parts.contract import PartModule, Size, Tokens
from hexavit.parts.layers import activation
from hexavit.parts.registry import register_part


@register_part("tokens", "conv_stem")
class ConvStem(PartModule):
    """Early convolutions (ViT-C: Xiao et al., NeurIPS 2021, section 3): convolutions, each with batch norm and
    activation, then one with neither, to the width.

    New in it, against patches: the image is halved in several steps. `channels`, `kernels` and `strides` list the
    convolutions, each with padding kernel // 2, and a bias if `bias`; `pool` adds a 3x3 max pool of stride 2; the last
    convolution has `last_kernel`, `last_stride`, `last_padding` (0), and a bias unless `last_bias=False`. With
    `last_kernel=none` there is none, and the width is the last of `channels` (ResNet: He et al., CVPR 2016).

    ViT-C: 3x3 steps of stride 2, last 1x1. DeepViT-S and LV-ViT: 7x7/2 and 3x3 at 64 channels, last 8x8/8. CeiT's
    image-to-tokens: 7x7/2 without activation, `pool`, last 4x4/4 (Yuan et al., ICCV 2021, section 3.1). ResT: 3x3 steps
    of stride 2 and 1 at half the width, last 3x3/2, padded, without bias (Zhang & Yang, NeurIPS 2021, section 3.2).
    Shuffle Transformer: two 3x3 steps of stride 2 with bias, last 1x1 (Huang et al., 2021).

    Shapes: (B, H, W, C_in) to (B, H / s, W / s, C), or C_n without a last convolution, s the product of strides. Cost:
    parameters k^2 C_i C_(i+1) + 2 C_(i+1) a step (3 C_(i+1) with `bias`), k^2 C_n C + C for the last; multiply-adds
    k^2 C_i C_(i+1) at every output place.

    Raises:
        ValueError: `channels`, `kernels` and `strides` of different lengths, or a size below 1.
        ArchitectureError: called with a grid that is too small.
    """

    needs = "raster"
    reads_grid = True
    keeps_extra = False
    first_conv = "steps.0.0"

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        channels: tuple[int, ...],
        kernels: tuple[int, ...],
        strides: tuple[int, ...],
        act: str | None = "relu",
        bias: bool = False,
        pool: bool = False,
        last_kernel: int | None = 1,
        last_stride: int = 1,
        last_padding: int = 0,
        last_bias: bool = True,
    ) -> None:
        super().__init__()
        if not len(channels) == len(kernels) == len(strides) or not channels:
            raise ValueError(
                "channels, kernels and strides must be of equal length, not "
                f"{len(channels)}, {len(kernels)} and {len(strides)}"
            )
        if min(*channels, *kernels, *strides, last_kernel or 1, last_stride) < 1 or last_padding < 0:
            raise ValueError("channels, kernels and strides must be at least 1, and last_padding at least 0")
        self.steps = nn.ModuleList()
        for before, after, kernel, stride in zip((in_dim, *channels), channels, kernels, strides, strict=False):
            step = nn.Sequential(
                nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, bias=bias),
                nn.BatchNorm2d(after),
                nn.Identity() if act is None else activation(act),
            )
            self.steps.append(step)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1) if pool else nn.Identity()
        self.windows = [(k, s, k // 2) for k, s in zip(kernels, strides, strict=True)] + [(3, 2, 1)] * pool
        self.conv: nn.Module = nn.Identity()
        if last_kernel:
            self.conv = nn.Conv2d(channels[-1], dim, last_kernel, last_stride, last_padding, bias=last_bias)
            self.windows.append((last_kernel, last_stride, last_padding))
        else:
            self.out_dim = channels[-1]

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, H, W, C_in) to (B, H', W', C)."""
        if not torch.compiler.is_compiling() and min(self.out_size(tokens.size)) < 1:
            h, w = tokens.size
            raise ArchitectureError(f"a grid of {h} x {w} is too small for this stem")
        image = tokens.map
        for step in self.steps:
            image = step(image)
        return Tokens.of_map(self.conv(self.pool(image))).with_carry(**tokens.carry)

    def out_size(self, size: Size) -> Size:
        """Each window's (H + 2 padding - kernel) // stride + 1, one after the other."""
        return self._sizes(size)[-1]

    def _sizes(self, size: Size) -> list[Size]:
        sizes = []
        for kernel, stride, padding in self.windows:
            span = 2 * padding - kernel
            size = (size[0] + span) // stride + 1, (size[1] + span) // stride + 1
            sizes.append(size)
        return sizes

    def macs(self, size: Size, extra: int = 0) -> int:
        """k^2 C_i C_(i+1) at every output place."""
        sizes = self._sizes(size)
        convs = [conv for conv in self.modules() if isinstance(conv, nn.Conv2d)]
        if isinstance(self.pool, nn.MaxPool2d):
            del sizes[len(self.steps)]
        return sum(conv.weight.numel() * h * w for conv, (h, w) in zip(convs, sizes, strict=True))
