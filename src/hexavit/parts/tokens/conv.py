"""Convolutions as tokenisers: patches, and CvT's overlapping token embedding."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from hexavit.errors import ArchitectureError
from hexavit.parts.contract import PartModule, Size, Tokens
from hexavit.parts.registry import register_part


@register_part("tokens", "conv")
class ConvTokens(PartModule):
    """Convolutional token embedding (CvT: Wu et al., ICCV 2021, section 3.1, eq. 1).

    New in it: windows overlap (kernel > stride), and the same part makes tokens of an image and of tokens, so the
    grid shrinks and the width grows from stage to stage. A convolution with bias, then LayerNorm over channels.

    Shapes: (B, H, W, C_in) to (B, H', W', C), H' = (H + 2 padding - kernel) // stride + 1. Cost: parameters
    kernel^2 C_in C + C, and 2 C with norm; multiply-adds kernel^2 C_in C H' W'.

    `norm` is LayerNorm for true, none for false, or `batch` (ResT: Zhang & Yang, NeurIPS 2021, section 3.2). `eps` is
    that of the norm, if it is not the model's. PVT v2 and P2T pad kernel // 2; PVT and Twins do not overlap (4x4/4 and
    2x2/2, each with norm).

    `kernel` = `stride` with `padding=0` and `norm=False` is ViT's patch embedding (Dosovitskiy et al., ICLR 2021,
    eq. 1); kernel = stride with norm is CvT's ablation "non-overlapping patch embedding" (table 6).
    Same as microsoft/CvT, whose first stage pads 2, not 3; `padding` has no default that depends on the kernel.
    Rows and columns that fill no whole window are left out, as by the authors' convolutions.

    Raises:
        ValueError: a kernel or stride below 1, or a negative padding.
        ArchitectureError: on a call, a grid that is smaller than the kernel.
    """

    reads_grid = True
    needs = "raster"
    keeps_extra = False
    first_conv = "conv"

    def __init__(
        self,
        in_dim: int,
        dim: int,
        norm_eps: float,
        *,
        kernel: int,
        stride: int,
        padding: int = 0,
        norm: bool | Literal["batch"] = True,
        eps: float | None = None,
    ) -> None:
        super().__init__()
        if kernel < 1 or stride < 1 or padding < 0:
            raise ValueError(
                f"kernel and stride are at least 1 and padding at least 0, not {kernel}, {stride}, {padding}"
            )
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.conv = nn.Conv2d(in_dim, dim, kernel, stride=stride, padding=padding)
        self.batch_norm = norm == "batch"
        eps = norm_eps if eps is None else eps
        self.norm: nn.Module = nn.Identity()
        if norm:
            self.norm = nn.BatchNorm2d(dim, eps=eps) if self.batch_norm else nn.LayerNorm(dim, eps=eps)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, H, W, C_in) to (B, H', W', C)."""
        if not torch.compiler.is_compiling() and min(self.out_size(tokens.size)) < 1:
            h, w = tokens.size
            raise ArchitectureError(f"a grid of {h} x {w} is too small for a {self.kernel} x {self.kernel} convolution")
        image = self.conv(self._map(tokens))
        if self.batch_norm:
            return Tokens.of_map(self.norm(image)).with_carry(**tokens.carry)
        return Tokens.of_map(image).with_carry(**tokens.carry).each(self.norm)

    def _map(self, tokens: Tokens) -> Tensor:
        """The map (B, C_in, H, W), in the memory format in which PyTorch convolves it faster.

        In channels-last memory that is most often so. But each call copies the weights to that format, which takes
        longer than the convolution if there are many for few tokens, and large patches are read faster from channels.
        """
        if torch.compiler.is_compiling() or not self.conv.weight.is_contiguous():
            return tokens.map
        if self.kernel >= 8 and self.padding == 0:
            h, w = tokens.size
            return tokens.image.transpose(1, 2).view(-1, tokens.body.shape[2], h, w)
        few = 4 * tokens.body.numel() < self.conv.weight.numel()
        return tokens.map.contiguous() if few else tokens.map

    def out_size(self, size: Size) -> Size:
        """(H + 2 padding - kernel) // stride + 1, and so for W."""
        span = 2 * self.padding - self.kernel
        return (size[0] + span) // self.stride + 1, (size[1] + span) // self.stride + 1

    def macs(self, size: Size, extra: int = 0) -> int:
        """kernel^2 C_in C H' W'."""
        h, w = self.out_size(size)
        return self.kernel**2 * self.conv.in_channels * self.conv.out_channels * h * w
