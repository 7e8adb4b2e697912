"""Transpositions between convolutions in exported programs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional as F

import hexavit
from hexavit.export.layouts import keep_maps, multiply_matrices, split_heads_first
from hexavit.parts.contract import Tokens

ATEN = torch.ops.aten


def tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, H W, C)."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def as_map(x: Tensor, height: int = 8) -> Tensor:
    """(B, H W, C) to (B, C, H, W)."""
    return x.unflatten(1, (height, -1)).permute(0, 3, 1, 2)


def by_reshape(x: Tensor) -> Tensor:
    """As `as_map`, through an intermediate shape that mixes images and rows."""
    rows = x.reshape(-1).view(8 * x.shape[0], 8 * x.shape[2])
    return rows.view(x.shape[0], 8, 8, x.shape[2]).permute(0, 3, 1, 2)


def column(x: Tensor) -> Tensor:
    """(B, H W, C) to (B, C, H W, 1)."""
    return x.transpose(-2, -1).unsqueeze(3)


def transpositions(program: ExportedProgram) -> int:
    """Operators that change the order of values."""
    return sum(node.target in (ATEN.permute.default, ATEN.transpose.int) for node in program.graph.nodes)


def rewritten(model: nn.Module, images: Tensor, dynamic: tuple[int, ...] = ()) -> tuple[int, ExportedProgram]:
    """The number of transpositions of a program as exported, and the program without those it does not need."""
    shapes = (dict.fromkeys(dynamic, Dim.DYNAMIC),) if dynamic else None
    with torch.no_grad():
        program = torch.export.export(model.eval(), (images,), dynamic_shapes=shapes)
        before = transpositions(program)
        keep_maps(program)
    program.graph_module.graph.lint()
    return before, program


class Between(nn.Module):
    """A convolution, a function of its output, and another convolution."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.first, self.last = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1)
        self.skip, self.skip_norm = nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)
        self.linear, self.norm = nn.Linear(6, 6), nn.LayerNorm(6)
        self.gamma, self.drop = nn.Parameter(torch.randn(6)), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 4, H', W')."""
        return self.last(self.function(self, self.first(x)))


def both(m: nn.Module, x: Tensor) -> Tensor:
    """Tokens that a linear reads too, and that its output is added to."""
    t = F.relu(tokens(x))
    return as_map(t) * m.linear(t).mean()


def strided(m: nn.Module, x: Tensor) -> Tensor:
    """A residual's projection of every second row and every third column, and a branch that gives as many."""
    kept = x.permute(0, 2, 3, 1)[:, ::2, ::3].flatten(1, 2)
    skipped = m.skip_norm(m.skip(column(kept))).squeeze(3).transpose(-2, -1)
    return as_map(F.relu(skipped + tokens(F.max_pool2d(x, (1, 2), (2, 3), ceil_mode=True))), 4)


def added(m: nn.Module, x: Tensor) -> Tensor:
    """The output of a linear, added to its input."""
    t = tokens(x)
    return as_map(t + m.linear(t))


def by_place(_: nn.Module, x: Tensor) -> Tensor:
    """Tokens, each times a number of its own."""
    t = tokens(x)
    return as_map(t * t.mean(2, keepdim=True))


CASES: dict[str, tuple[Callable[[nn.Module, Tensor], Tensor], int]] = {
    "nothing": (lambda m, x: as_map(tokens(x)), 0),
    "an activation": (lambda m, x: as_map(F.gelu(tokens(x))), 0),
    "an activation with an option": (lambda m, x: as_map(F.gelu(tokens(x), approximate="tanh")), 0),
    "numbers": (lambda m, x: as_map(2 * tokens(x) - 1), 0),
    "a number less the tokens": (lambda m, x: as_map(1 - tokens(x)), 0),
    "a value for each channel": (lambda m, x: as_map(tokens(x) * m.gamma), 0),
    "a sum with a factor": (lambda m, x: as_map(torch.add(tokens(x), tokens(x.sigmoid()), alpha=0.3)), 0),
    "a sum on grids": (lambda m, x: (x.permute(0, 2, 3, 1) + x.relu().permute(0, 2, 3, 1)).permute(0, 3, 1, 2), 0),
    "dropout": (lambda m, x: as_map(m.drop(tokens(x))), 0),
    "views that mix axes": (lambda m, x: by_reshape(F.relu(tokens(x)).contiguous()), 0),
    "every second place": (lambda m, x: x.permute(0, 2, 3, 1)[:, ::2, 1::2].permute(0, 3, 1, 2), 0),
    "a convolution of a column": (
        lambda m, x: as_map(m.skip_norm(m.skip(column(tokens(x)))).squeeze(3).transpose(-2, -1) + tokens(x)),
        0,
    ),
    "a convolution of every second place": (strided, 0),
    "a linear": (lambda m, x: as_map(m.linear(tokens(x))), 2),
    "a norm": (lambda m, x: as_map(m.norm(tokens(x))), 2),
    "a sum with tokens": (added, 2),
    "tokens that a linear reads too": (both, 1),
    "a value for each place": (by_place, 2),
    "channels as rows": (lambda m, x: x.flatten(2).transpose(1, 2).reshape(-1, 6, 8, 8), 1),
}


@pytest.mark.parametrize("name", CASES)
def test_maps_between_two_convolutions(name: str) -> None:
    torch.manual_seed(0)
    function, left = CASES[name]
    model, images = Between(function).eval(), torch.randn(3, 3, 8, 8)
    before, program = rewritten(model, images, dynamic=(0,))
    assert transpositions(program) == left <= before
    other = torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        for batch in (images, other):
            torch.testing.assert_close(program.module()(batch), model(batch), rtol=1e-5, atol=1e-6)


def test_a_value_is_computed_once() -> None:
    """The activation that a linear reads as tokens is computed on the map, and transposed."""
    _, program = rewritten(Between(both), torch.randn(3, 3, 8, 8))
    assert sum(node.target is ATEN.relu.default for node in program.graph.nodes) == 1


def test_dynamic_sizes_stay_dynamic() -> None:
    class Sized(Between):
        def forward(self, x: Tensor) -> Tensor:
            """(B, 3, H, W) to (B, 4, H, W)."""
            held = Tokens.of_map(self.first(x))
            skipped = held.each(lambda t: self.skip(column(t)).squeeze(3).transpose(-2, -1))
            return self.last(held.each(lambda t: F.relu(t + skipped.image)).map)

    model = Sized(both).eval()
    _, program = rewritten(model, torch.randn(2, 3, 8, 8), dynamic=(0, 2, 3))
    assert transpositions(program) == 0
    for shape in ((2, 3, 8, 8), (4, 3, 7, 12)):
        images = torch.randn(shape)
        with torch.no_grad():
            torch.testing.assert_close(program.module()(images), model(images), rtol=1e-5, atol=1e-6)


def test_bottlenecks_keep_maps() -> None:
    """Up to BoTNet's first attention: one transposition into tokens, and one for the heads of q, k and v."""
    model = hexavit.create_model("botnet_nano").eval()
    before, program = rewritten(model, torch.randn(2, 3, *model.architecture.img_size), dynamic=(0,))
    targets = [node.target for node in program.graph.nodes]
    first = targets[: targets.index(ATEN.unbind.int)]
    assert sum(target in (ATEN.permute.default, ATEN.transpose.int) for target in first) == 2
    assert transpositions(program) < before


@pytest.mark.parametrize("name", ["deit_nano", "swin_nano", "pvt_nano"])
def test_heads_are_split_before_they_are_transposed(name: str) -> None:
    """Three transpositions for q, k and v, or two for k and v, in the place of one; the values are the same."""
    model = hexavit.create_model(name).eval()
    images = torch.randn(2, 3, *model.architecture.img_size)
    with torch.no_grad():
        program = torch.export.export(model, (images,), dynamic_shapes=({0: Dim.DYNAMIC},))
        joint = [node for node in program.graph.nodes if node.target is ATEN.unbind.int]
        before, added = transpositions(program), sum(len(node.users) - 1 for node in joint)
        split_heads_first(program)
        program.graph_module.graph.lint()
        assert len(joint) == sum(stage.depth for stage in model.architecture.stages)
        assert transpositions(program) == before + added
        assert all(node.target is not ATEN.unbind.int for node in program.graph.nodes)
        other = torch.randn(3, *images.shape[1:])
        for batch in (images, other):
            torch.testing.assert_close(program.module()(batch), model(batch), rtol=1e-5, atol=1e-6)


def test_a_convolution_takes_the_steps_of_a_slice() -> None:
    _, program = rewritten(Between(strided), torch.randn(3, 3, 8, 8), dynamic=(0,))
    targets = [node.target for node in program.graph.nodes]
    assert ATEN.slice.Tensor not in targets
    strides = [
        node.args[3] for node in program.graph.nodes if node.target is ATEN.conv2d.default and len(node.args) == 4
    ]
    assert strides == [[2, 3]]


def test_linears_multiply_matrices() -> None:
    """Every linear with a bias reads a matrix, and the values are the same, at other sizes too."""
    model = hexavit.create_model("pvt_v2_nano").eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        program = torch.export.export(model, (images,), dynamic_shapes=(dict.fromkeys((0, 2, 3), Dim.DYNAMIC),))
        multiply_matrices(program)
        program.graph_module.graph.lint()
        linears = [node for node in program.graph.nodes if node.target is ATEN.linear.default and len(node.args) > 2]
        assert {node.args[0].meta["val"].ndim for node in linears} == {2}
        for batch in (images, torch.randn(3, 3, 85, 64)):
            torch.testing.assert_close(program.module()(batch), model(batch), rtol=1e-5, atol=1e-6)
