"""A convolutional stem of residual bottlenecks."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from hexavit.parts.attention.bottleneck import BottleneckLayers
from hexavit.parts.contract import PartModule, Size, Tokens
from hexavit.parts.registry import register_part


class Bottleneck(BottleneckLayers):
    """A residual bottleneck, with a skip that a 1x1 convolution projects where the width changes (ResNet: He et al.,
    CVPR 2016, figure 5)."""

    def __init__(self, in_dim: int, inner: int, dim: int, groups: int = 1) -> None:
        super().__init__(in_dim, inner, dim, groups=groups)
        self.skip: nn.Module = nn.Identity()
        if in_dim != dim:
            self.skip = nn.Sequential(nn.Conv2d(in_dim, dim, 1, bias=False), nn.BatchNorm2d(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C, H, W)."""
        out: Tensor = self.act(self.branch(x) + self.skip(x))
        return out


@register_part("tokens", "bottleneck_stem")
class BottleneckStem(PartModule):
    """The first layers of a ResNet (He et al., CVPR 2016, section 4.1): a 7x7 convolution of stride 2 with batch norm
    and ReLU, a 3x3 max pool of stride 2, then residual bottlenecks, the last one of the width C.

    PS-ViT (Yue et al., ICCV 2021) samples its tokens from such a map.

    Shapes: (B, H, W, C_in) to (B, ceil(H / 4), ceil(W / 4), C). Cost with inner width E: parameters 49 C_in E + 2 E,
    and (C_i + 9 E + C_o) E + 4 E + 2 C_o for each bottleneck, and (C_i + 2) C_o where C_i is not C_o; multiply-adds
    of the weights of convolutions at every output place.

    Args:
        inner: width E of the first convolution and inside the bottlenecks.
        channels: width of each bottleneck before the last.

    Raises:
        ValueError: a width below 1.
    """

    needs = "raster"
    reads_grid = True
    keeps_extra = False
    first_conv = "steps.0.0"

    def __init__(self, in_dim: int, dim: int, *, inner: int = 64, channels: tuple[int, ...] = ()) -> None:
        super().__init__()
        if min(inner, *channels, 1) < 1:
            raise ValueError(f"inner and channels must be at least 1, not {inner} and {channels}")
        conv = nn.Conv2d(in_dim, inner, 7, stride=2, padding=3, bias=False)
        first = nn.Sequential(conv, nn.BatchNorm2d(inner), nn.ReLU())
        self.steps = nn.Sequential(first, nn.MaxPool2d(3, stride=2, padding=1))
        self.first_weights = conv.weight.numel()
        self.bottlenecks = nn.Sequential(*(Bottleneck(a, inner, b) for a, b in pairwise((inner, *channels, dim))))

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, H, W, C_in) to (B, H', W', C)."""
        return Tokens.of_map(self.bottlenecks(self.steps(tokens.map))).with_carry(**tokens.carry)

    def out_size(self, size: Size) -> Size:
        """ceil(H / 4), ceil(W / 4)."""
        return -(-size[0] // 4), -(-size[1] // 4)

    def macs(self, size: Size, extra: int = 0) -> int:
        """The weights of convolutions at every output place."""
        (h, w), (half_h, half_w) = self.out_size(size), (-(-size[0] // 2), -(-size[1] // 2))
        deep = sum(m.weight.numel() for m in self.bottlenecks.modules() if isinstance(m, nn.Conv2d))
        return half_h * half_w * self.first_weights + h * w * deep
