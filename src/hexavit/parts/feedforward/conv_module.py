"""Grouped convolutions over the map, for a branch beside an attention."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from hexavit.errors import nearest
from hexavit.parts.contract import PartModule, Size, Tokens
from hexavit.parts.layers import activation
from hexavit.parts.registry import register_part


@register_part("feedforward", "conv_module")
class ConvModule(PartModule):
    """Parallel convolutional module (ViTAE: Xu et al., NeurIPS 2021): grouped 3x3 convolutions over the
    map, each followed by batch norm and an activation, the last by an activation alone.

    New in it: it stands beside the attention, as a `parallel` branch that reads the same input, and adds what is local.

    Shapes: (B, P + H W, C) to the same; 0 for extra tokens, which have no place. Cost with R = ratio C and g groups:
    parameters 9 (2 R C + C^2) / g + 3 R + 5 C with three layers, 18 R C / g + 3 R + C with two; multiply-adds
    9 (2 R C + C^2) H W / g, or 18 R C H W / g.
    Same as ViTAE-Transformer/ViTAE-Transformer's `PCM` of a normal cell.

    Args:
        ratio: hidden width R, as a multiple of C.
        groups: number of groups g of each convolution.
        layers: 3 for C to R, R to C and C to C; 2 for the first two of them, without norm and activation at the end.
        act: activation, as `mlp` has it.

    Raises:
        ValueError: groups that do not divide C and R, or an unknown activation.
    """

    needs = "raster"
    reads_grid = True

    def __init__(
        self, dim: int, *, ratio: float = 2.0, groups: int = 1, layers: Literal[2, 3] = 3, act: str = "silu"
    ) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        if groups < 1 or hidden < 1 or dim % groups or hidden % groups:
            near = nearest(str(groups), [str(n) for n in range(1, dim + 1) if dim % n == 0 == hidden % n])
            raise ValueError(f"groups must divide the widths {dim} and {hidden}, not {groups}: {near}")
        self.hidden, self.groups, self.weights_in_a_row = hidden, groups, layers  # type: ignore[misc]  # an option's
        self.conv1 = nn.Conv2d(dim, hidden, 3, padding=1, groups=groups)
        self.norm1, self.act1 = nn.BatchNorm2d(hidden), activation(act)
        self.conv2 = nn.Conv2d(hidden, dim, 3, padding=1, groups=groups)
        self.rest = nn.Sequential()
        if layers == 3:
            last = nn.Conv2d(dim, dim, 3, padding=1, groups=groups)
            self.rest = nn.Sequential(nn.BatchNorm2d(dim), activation(act), last, activation(act))

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + H W, C) to the same."""
        x = self.rest(self.conv2(self.act1(self.norm1(self.conv1(tokens.map)))))
        out = tokens.with_image(x.permute(0, 2, 3, 1).flatten(1, 2))
        held = tokens.extra
        return out if held is None else out.replace_extra(torch.zeros_like(held))

    def macs(self, size: Size, extra: int = 0) -> int:
        """9 (2 R C + C^2) H W / g, or 18 R C H W / g."""
        weights = sum(m.weight.numel() for m in self.modules() if isinstance(m, nn.Conv2d))
        return weights * size[0] * size[1]
