"""Residual bottlenecks: 1x1 convolutions around a 3x3 convolution (ResNet) or an attention (BoTNet)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.parts.attention.self_attention import GlobalAttention
from hexavit.parts.contract import PartModule, Size, Tokens, rows
from hexavit.parts.layers import activation, dropout, dropped
from hexavit.parts.registry import register_part


class BottleneckLayers(nn.Module):
    """1x1, 3x3 and 1x1 convolutions without bias, each with batch norm, and an activation after the first two (ResNet:
    He et al., CVPR 2016, figure 5)."""

    def __init__(
        self, in_dim: int, inner: int, dim: int, *, stride: int = 1, groups: int = 1, act: str = "relu"
    ) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(in_dim, inner, 1, bias=False), nn.BatchNorm2d(inner)
        middle = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, groups=groups, bias=False)
        self.conv2, self.norm2 = middle, nn.BatchNorm2d(inner)
        self.conv3, self.norm3 = nn.Conv2d(inner, dim, 1, bias=False), nn.BatchNorm2d(dim)
        self.act = activation(act)

    def branch(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C, H', W')."""
        y = self.act(self.norm2(self.conv2(self.act(self.norm1(self.conv1(x))))))
        out: Tensor = self.norm3(self.conv3(y))
        return out


@register_part("attention", "conv_bottleneck")
class ConvBottleneck(BottleneckLayers, PartModule):
    """Bottleneck of convolutions in the place of an attention: 1x1 to the width E, 3x3 with the stride, 1x1 to C, each
    with batch norm, the first two with an activation (ResNet: He et al., CVPR 2016, section 4.1, with the stride in the
    3x3 convolution).

    The residual around it is `post_act`. Extra tokens have no place: the branch gives 0 for them.

    Shapes: (B, H, W, C_in) to (B, ceil(H / s), ceil(W / s), C) for a stride s. Cost: parameters
    (C_in + 9 E + C) E + 4 E + 2 C; multiply-adds H W C_in E + H' W' (9 E + C) E.
    Same as timm's `BottleneckBlock` without groups.

    Args:
        in_dim: C_in.
        dim: C.
        ratio: E, as a multiple of C.
        stride: s.
        act: activation, as `mlp` has it.

    Raises:
        ValueError: a ratio that leaves no width, a stride below 1, or an unknown activation.
    """

    needs = "raster"
    reads_grid = True
    last = "conv3"
    weights_in_a_row = 3

    def __init__(self, in_dim: int, dim: int, *, ratio: float = 0.25, stride: int = 1, act: str = "relu") -> None:
        super().__init__(in_dim, inner_width(dim, ratio, stride), dim, stride=stride, act=act)
        self.stride, self.out_dim = stride, dim

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + H W, C_in) to (B, P + H' W', C)."""
        x = self.branch(tokens.map)
        out = tokens.with_image(x.permute(0, 2, 3, 1).flatten(1, 2), (x.shape[2], x.shape[3]))
        held = tokens.extra
        return out if held is None else out.replace_extra(held.new_zeros(*held.shape[:2], x.shape[1]))

    def out_size(self, size: Size) -> Size:
        """ceil(H / s), ceil(W / s)."""
        return divided(size, self.stride)

    def macs(self, size: Size, extra: int = 0) -> int:
        """H W C_in E + H' W' (9 E + C) E."""
        deep = self.conv2.weight.numel() + self.conv3.weight.numel()
        return rows(size, 0) * self.conv1.weight.numel() + rows(self.out_size(size), 0) * deep


@register_part("attention", "bottleneck")
class BottleneckAttention(GlobalAttention):
    """Bottleneck with attention: 1x1 convolution to the width E, attention of all tokens, average pool of the stride,
    1x1 convolution to C (BoTNet: Srinivas et al., CVPR 2021, section 3, figure 3).

    New in it, against `conv_bottleneck`: global attention in place of the 3x3 convolution, without output projection.
    Batch norm follows both convolutions and the attention, an activation the first convolution and the attention. The
    residual around it is `post_act`, the position `decomposed_relative`. Sides that the stride does not divide are
    pooled in windows that end at the border. Extra tokens take part in the attention, and are not pooled.

    Shapes: (B, P + H W, C_in) to (B, P + ceil(H / s) ceil(W / s), C) for a stride s. Cost with M = P + H W and M' the
    tokens that come out: parameters (C_in + 3 E + C) E + 4 E + 2 C; multiply-adds M (C_in + 3 E) E + 2 M^2 E + M' E C.
    Same as timm's `SelfAttnBlock` with `BottleneckAttn`.

    Args:
        in_dim: C_in.
        dim: C.
        heads: number of heads.
        ratio: E, as a multiple of C.
        stride: s.
        act: activation, as `mlp` has it.
        attn_drop: dropout rate of the attention maps.
        proj_drop: dropout rate of the output.

    Raises:
        ValueError: a ratio that leaves no width, heads that do not divide it, a stride below 1, or an unknown
            activation.
    """

    needs = "raster"
    last = "conv3"
    weights_in_a_row = 3

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        heads: int,
        ratio: float = 0.25,
        stride: int = 1,
        act: str = "relu",
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        inner = inner_width(dim, ratio, stride)
        super().__init__(inner, heads=heads, qkv_bias=False, attn_drop=attn_drop)
        self.proj = nn.Identity()  # the attention inside gives its values, heads by heads
        self.conv1, self.norm1 = nn.Conv2d(in_dim, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.norm = nn.BatchNorm2d(inner)
        self.conv3, self.norm3 = nn.Conv2d(inner, dim, 1, bias=False), nn.BatchNorm2d(dim)
        self.act, self.drop = activation(act), dropout(proj_drop)
        self.stride, self.out_dim = stride, dim

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + H W, C_in) to (B, P + H' W', C)."""
        joined = tokens.join()
        reduced = joined.each(lambda x: as_rows(self.act(self.norm1(self.conv1(as_column(x))))))
        mixed = reduced.each(lambda x: self._mix(x, size=tokens.size, prefix=tokens.prefix))
        if self.stride > 1:
            image = mixed.image.unflatten(1, tokens.size).permute(0, 3, 1, 2)
            image = F.avg_pool2d(image, self.stride, ceil_mode=True)
            size = image.shape[2], image.shape[3]
            mixed = mixed.with_image(image.permute(0, 2, 3, 1).flatten(1, 2), size).join()
        return mixed.each(
            lambda x: dropped(as_rows(self.norm3(self.conv3(self.act(self.norm(as_column(x)))))), self.drop)
        )

    def out_size(self, size: Size) -> Size:
        """ceil(H / s), ceil(W / s)."""
        return divided(size, self.stride)

    def query_grid(self, size: Size) -> Size:
        """The grid before the pooling."""
        return size

    def macs(self, size: Size, extra: int = 0) -> int:
        """M (C_in + 3 E) E + 2 M^2 E + M' E C."""
        m, after = rows(size, extra), rows(self.out_size(size), extra)
        entering = self.conv1.weight.numel() + self.qkv.weight.numel()
        return m * entering + 2 * m * m * self.dim + after * self.conv3.weight.numel()


def inner_width(dim: int, ratio: float, stride: int) -> int:
    """The width inside a bottleneck.

    Raises:
        ValueError: there is none, or the stride is below 1.
    """
    inner = int(dim * ratio)
    if inner < 1 or stride < 1:
        raise ValueError(f"ratio={ratio} of dim={dim} must leave a width, and stride={stride} must be at least 1")
    return inner


def divided(size: Size, stride: int) -> Size:
    """ceil(H / stride), ceil(W / stride)."""
    return (size[0] + stride - 1) // stride, (size[1] + stride - 1) // stride


def as_column(x: Tensor) -> Tensor:
    """Tokens (B, M, C) as a map (B, C, M, 1) for 1x1 convolutions and their norms: a view in channels-last memory."""
    return x.transpose(-2, -1).unsqueeze(3)


def as_rows(x: Tensor) -> Tensor:
    """The inverse of `as_column`."""
    return x.squeeze(3).transpose(-2, -1)
