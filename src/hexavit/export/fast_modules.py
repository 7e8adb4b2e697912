"""Modules that compute what a model's own modules compute, faster on some CPUs in float32 inference.

Each is built from PyTorch's public operations. Which of them is faster depends on the processor and on the shapes, so
`hexavit.optimize` times each before it uses it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from hexavit.parts.attention.conv_projection import DepthwiseProjection
from hexavit.parts.contract import Size, Tokens
from hexavit.parts.feedforward import MLP, ConvMLP
from hexavit.parts.layers import QuickGELU
from hexavit.parts.positions import ContinuousBias, RelativeBias

PIECE = 2**21
"""Values of one piece at its widest: 8 MiB of float32, which stay in the caches of the processor."""

_SLOPE = 1.702  # of the sigmoid in quick GELU
_FOLDED: dict[type[nn.Module], tuple[tuple[str, str], ...]] = {
    ConvMLP: (("fc1", "norm1"), ("conv", "norm2"), ("fc2", "norm3")),
    DepthwiseProjection: (("conv", "bn"),),
}
"""Layers followed by a batch norm, by the class that calls them: attribute names of the layer and of the norm."""


class PointwiseConv(nn.Module):
    """A linear as a 1 x 1 convolution in channels-last memory, which PyTorch gives to oneDNN.

    `F.linear` goes to MKL in float32, which is slower than oneDNN on some processors.

    Shapes: (..., C) to (..., C').
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()[:, :, None, None].contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """x W^T + b."""
        rows = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)  # (1, C, M, 1), channels-last
        out: Tensor = F.conv2d(rows, self.weight, self.bias).permute(0, 2, 3, 1)
        return out.reshape(*x.shape[:-1], out.shape[-1])


class PartWrapper(nn.Module):
    """A module in place of a part; what it lacks, such as the part's options, is the part's."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("part"), name)


class FeedforwardInPieces(PartWrapper):
    """A feedforward part on a few tokens at a time, so that its wide hidden values stay in the cache.

    An MLP takes the tokens in any order. A convolutional MLP takes some images at once or, of a large image, some
    rows with as many more as its kernel reads.

    Shapes: as the part's.
    """

    part: MLP | ConvMLP

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + N, C) to the same."""
        if isinstance(self.part, MLP):
            return tokens.join().each(self._by_rows)
        image = self._by_bands(tokens.grid)
        out, extra = tokens.with_image(image.flatten(1, 2)), tokens.extra
        return out.replace_extra(torch.zeros_like(extra)) if self.part.extra == "zero" and extra is not None else out

    def pieces(self, tokens: Tokens) -> int:
        """In how many pieces these tokens are computed."""
        calls: list[None] = []
        handle = self.part.register_forward_hook(lambda *_: calls.append(None))
        self(tokens)
        handle.remove()
        return len(calls)

    def _by_rows(self, x: Tensor) -> Tensor:
        def transform(rows: Tensor) -> Tensor:
            mapped: Tokens = self.part(Tokens(rows[None], (len(rows), 1), layout="set"))
            return mapped.image[0]

        out: Tensor = in_pieces(transform, x.flatten(0, 1), self.part.hidden).unflatten(0, x.shape[:2])
        return out

    def _by_bands(self, grid: Tensor) -> Tensor:
        part = self.part
        assert isinstance(part, ConvMLP)
        height, width, reach = *grid.shape[1:3], part.kernel // 2
        row = width * part.hidden
        rows = _even_share(height, row, least=8 * reach)
        if rows == height or part.excite is not None:  # whose channel weights depend on the whole image
            return in_pieces(lambda x: part(Tokens.of_grid(x)).grid, grid, height * row)
        out = torch.empty_like(grid)
        for given, place in zip(grid.split(1), out.split(1), strict=True):
            for top in range(0, height, rows):
                start = max(0, top - reach)
                band = part(Tokens.of_grid(given[:, start : top + rows + reach])).grid
                place[:, top : top + rows] = band[:, top - start : top - start + rows]
        return out


class FixedBias(PartWrapper):
    """A position bias that does not depend on the queries, computed once for each scope.

    Shapes: as the part's.
    """

    def __init__(self, part: RelativeBias | ContinuousBias) -> None:
        super().__init__(part)
        self._known: dict[Size, Tensor] = {}

    @property
    def values(self) -> int:
        """How many numbers are kept."""
        return sum(bias.numel() for bias in self._known.values())

    def forward(self, scope: Size, queries: Tensor | None = None, key_scope: Size | None = None) -> Tensor:
        """The bias of that scope."""
        if scope not in self._known:
            self._known[scope] = self.part(scope, queries)
        return self._known[scope]


def folded(module: nn.Module) -> nn.Module | None:
    """A copy of a module with its batch norms computed into the layers before them; None where there are none."""
    pairs = [
        (first, second)
        for first, second in _followed_by_norm(module)
        if isinstance(getattr(module, second), nn.BatchNorm2d)
        and isinstance(getattr(module, first), nn.Conv2d | nn.Linear)
    ]
    if not pairs:
        return None
    twin = copy.deepcopy(module)
    for first, second in pairs:
        layer, norm = getattr(twin, first), getattr(twin, second)
        fuse: Callable[..., nn.Module] = fuse_conv_bn_eval if isinstance(layer, nn.Conv2d) else fuse_linear_bn_eval
        setattr(twin, first, fuse(layer, norm))
        setattr(twin, second, nn.Identity())
    return twin.requires_grad_(False)


def in_pieces(function: Callable[[Tensor], Tensor], x: Tensor, width: int) -> Tensor:
    """A function that keeps the first axis and the number of axes, applied to even shares of the first axis.

    Args:
        function: from (n, ...) to (n, ...).
        x: (N, ...).
        width: values that one entry of the first axis has where the function is widest.
    """
    share = _even_share(len(x), width)
    if share == len(x):
        return function(x)
    given, *others = x.split(share)
    first = function(given)
    out = x.new_empty((len(x), *first.shape[1:]))
    out[:share] = first
    for given, place in zip(others, out[share:].split(share), strict=True):
        place.copy_(function(given))
    return out


def _even_share(count: int, width: int, least: int = 1) -> int:
    """How many of `count` entries of `width` values go in one piece, all pieces alike."""
    most = max(least, PIECE // width)
    return -(-count // max(1, -(-count // most)))


def _followed_by_norm(module: nn.Module) -> Iterator[tuple[str, str]]:
    if isinstance(module, nn.Sequential):
        yield from pairwise(name for name, _ in module.named_children())
    yield from _FOLDED.get(type(module), ())


def with_silu(module: nn.Module) -> nn.Module | None:
    """A copy of an MLP whose quick GELU is a SiLU between scaled linears; None for other modules.

    x sigmoid(a x) = silu(a x) / a takes one pass over the hidden values instead of three.
    """
    if not isinstance(module, MLP) or not isinstance(module.act, QuickGELU):
        return None
    twin = copy.deepcopy(module).requires_grad_(False)
    for tensor in (twin.fc1.weight, twin.fc1.bias):
        tensor.mul_(_SLOPE)
    twin.fc2.weight.div_(_SLOPE)
    twin.act = nn.SiLU()
    return twin


def pointwise(module: nn.Module) -> nn.Module | None:
    """A linear as a `PointwiseConv`; None for other modules."""
    return PointwiseConv(module) if type(module) is nn.Linear else None


def with_fixed_bias(module: nn.Module) -> nn.Module | None:
    """A position on the logits that does not read the queries as a `FixedBias`; None for other modules."""
    return FixedBias(module) if isinstance(module, RelativeBias | ContinuousBias) else None


def piecewise(module: nn.Module) -> nn.Module | None:
    """A feedforward as `FeedforwardInPieces`; None for other modules."""
    return FeedforwardInPieces(module) if isinstance(module, MLP | ConvMLP) else None
