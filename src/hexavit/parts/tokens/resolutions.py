"""Maps of several resolutions side by side: one more of them, and all of them as one map."""

from __future__ import annotations

from torch import Tensor, nn

from hexavit.parts.contract import PartModule, Size, Tokens, halves, lower_names, rows
from hexavit.parts.registry import register_part
from hexavit.parts.tokens.bottleneck_stem import Bottleneck


@register_part("tokens", "add_resolution")
class AddResolution(PartModule):
    """One more resolution beside those that there are, at half the side and twice the width of the lowest of them
    (HRNet: Wang et al., TPAMI 2020, section 3.1; HRFormer: Yuan et al., NeurIPS 2021).

    New in it: the stage works on several maps. Resolution r has ceil(side / 2^r) rows and columns and the width 2^r C.
    The blocks of the stage exist for each resolution, with 2^r times as many heads, and `resolution_fusion` exchanges
    what they found. The highest resolution is the image tokens; the lower ones are carried as `resolution1`,
    `resolution2`, ...

    The new map is a 3x3 convolution of stride 2 of the lowest one. A map of another width than 2^r C gets a 3x3
    convolution, others stay. Each convolution has no bias, and is followed by batch norm and ReLU. Extra tokens,
    which no published model has, get a linear where the width changes.

    Shapes: (B, H W, C_in) and n - 1 lower maps to (B, H W, C) and n lower maps. Cost with c the width of the lowest map
    before: parameters (9 c + 2) 2^n C, and (9 C_in + 2) C for each map whose width changes; multiply-adds of the
    weights of convolutions at every output place.
    Same as the transitions of HRNet/HRFormer.
    """

    needs = "raster"
    reads_grid = True
    gives = ("resolution1",)

    def __init__(self, in_dim: int, dim: int, extra: int, lower: tuple[int, ...]) -> None:
        super().__init__()
        before = (in_dim, *lower)
        widths = [dim * 2**r for r in range(len(before) + 1)]
        self.lower_dims = tuple(widths[1:])
        self.steps = nn.ModuleList(
            nn.Identity() if a == b else _convolved(a, b, 1) for a, b in zip(before, widths, strict=False)
        )
        self.new = _convolved(before[-1], widths[-1], 2)
        self.extra = nn.Linear(in_dim, dim) if extra and in_dim != dim else None

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + H W, C_in) and n - 1 lower maps to (B, P + H W, C) and n lower maps."""
        maps = resolutions(tokens, len(self.steps) - 1)
        held = [*(step(x) for step, x in zip(self.steps, maps, strict=True)), self.new(maps[-1])]
        if tokens.extra is not None and self.extra is not None:
            tokens = tokens.replace_extra(self.extra(tokens.extra))
        return with_resolutions(tokens, held)

    def macs(self, size: Size, extra: int = 0) -> int:
        """The weights of convolutions at every output place."""
        sizes = halves(size, len(self.steps))
        total = rows(sizes[-1], 0) * _weights(self.new)
        total += sum(rows(each, 0) * _weights(step) for each, step in zip(sizes, self.steps, strict=False))
        return total + (0 if self.extra is None else extra * self.extra.weight.numel())


@register_part("tokens", "join_resolutions")
class JoinResolutions(PartModule):
    """All resolutions as one map, of the lowest of them (HRNet's classification head: Wang et al., TPAMI 2020, section
    3.2; HRFormer: Yuan et al., NeurIPS 2021).

    A residual bottleneck with a depth-wise convolution widens each map to 4 E, 8 E, 16 E, ... for an inner width E of
    the first. From the highest on, each map is reduced (3x3 depth-wise convolution of stride 2, batch norm, 1x1
    convolution, batch norm, ReLU) and added to the next. A 1x1 convolution with batch norm and ReLU gives the width C.
    Extra tokens, which no published model has, get a linear.

    Shapes: (B, H W, C_in) and n lower maps to (B, H' W', C), each side halved n times and rounded up. Cost: parameters
    and multiply-adds of the convolutions, each at its output places.
    Same as `incre_modules`, `downsamp_modules` and `final_layer` of HRNet/HRFormer.

    Args:
        in_dim: C_in.
        dim: C.
        extra: number of extra tokens.
        lower: widths of the lower resolutions.
        inner: E; inside the bottlenecks of lower resolutions it is doubled each time.

    Raises:
        ValueError: an inner width below 1.
    """

    needs = "raster"
    reads_grid = True

    def __init__(self, in_dim: int, dim: int, extra: int, lower: tuple[int, ...], *, inner: int = 32) -> None:
        super().__init__()
        if inner < 1:
            raise ValueError(f"inner must be at least 1, not {inner}")
        widths = [inner * 2**r for r in range(len(lower) + 1)]
        self.bottlenecks = nn.ModuleList(
            Bottleneck(a, e, 4 * e, groups=e) for a, e in zip((in_dim, *lower), widths, strict=True)
        )
        self.down = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(4 * e, 4 * e, 3, stride=2, padding=1, groups=4 * e),
                nn.BatchNorm2d(4 * e),
                nn.Conv2d(4 * e, 8 * e, 1),
                nn.BatchNorm2d(8 * e),
                nn.ReLU(),
            )
            for e in widths[:-1]
        )
        self.final = nn.Sequential(nn.Conv2d(4 * widths[-1], dim, 1), nn.BatchNorm2d(dim), nn.ReLU())
        self.extra = nn.Linear(in_dim, dim) if extra else None
        self.lower_dims: tuple[int, ...] = ()

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + H W, C_in) and n lower maps to (B, P + H' W', C)."""
        first, *others = (
            bottleneck(x) for bottleneck, x in zip(self.bottlenecks, resolutions(tokens, len(self.down)), strict=True)
        )
        for down, other in zip(self.down, others, strict=True):
            first = other + down(first)
        if tokens.extra is not None and self.extra is not None:
            tokens = tokens.replace_extra(self.extra(tokens.extra))
        return with_resolutions(tokens, [self.final(first)])

    def out_size(self, size: Size) -> Size:
        """Each side halved for each lower resolution, rounded up."""
        return halves(size, len(self.down))[-1]

    def macs(self, size: Size, extra: int = 0) -> int:
        """The weights of convolutions at every output place."""
        sizes = halves(size, len(self.down))
        total = sum(rows(each, 0) * _weights(part) for each, part in zip(sizes, self.bottlenecks, strict=True))
        total += sum(rows(each, 0) * _weights(part) for each, part in zip(sizes[1:], self.down, strict=True))
        total += rows(sizes[-1], 0) * _weights(self.final)
        return total + (0 if self.extra is None else extra * self.extra.weight.numel())


def resolutions(tokens: Tokens, count: int) -> list[Tensor]:
    """The image tokens as a map (B, C, H, W), and `count` lower maps (B, 2 C, H / 2, W / 2), ..."""
    return [tokens.map, *(tokens.carry[name].permute(0, 3, 1, 2) for name in lower_names(count))]


def with_resolutions(tokens: Tokens, maps: list[Tensor]) -> Tokens:
    """The same extra tokens with the image tokens and the lower resolutions of maps (B, C, H, W), ..."""
    first, *lower = (x.permute(0, 2, 3, 1).contiguous() for x in maps)
    carry = dict(zip(lower_names(len(lower)), lower, strict=True))
    return tokens.with_image(first.flatten(1, 2), (first.shape[1], first.shape[2])).with_carry(**carry)


def _convolved(in_dim: int, dim: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(in_dim, dim, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(dim), nn.ReLU())


def _weights(module: nn.Module) -> int:
    return sum(conv.weight.numel() for conv in module.modules() if isinstance(conv, nn.Conv2d))
