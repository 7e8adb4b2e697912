"""The local operator equals its formula, place by place, and its named points what other code computes."""

from collections.abc import Iterator
from itertools import cycle, product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import hexavit
from hexavit.parts import Tokens, record_attention
from hexavit.parts.attention import LocalAttention, WindowAttention
from hexavit.parts.attention.filters import filter_norm
from hexavit.parts.positions import RelativeBias

NETS = ("qk", "r", "qr", "qk+r", "qr+r", "qr+rk+r", "qk+qr+rk+r")
NORMS = ("identity", "filter_norm", "softmax")


def part_of(dim: int = 6, heads: int | None = 2, kernel: int = 3, **options: Any) -> LocalAttention:
    torch.manual_seed(0)
    part = LocalAttention(dim, heads=heads, kernel=kernel, **options).double().eval()
    with torch.no_grad():
        for table in (part.r_k, part.r_q, part.r_b, part.ghost):
            if table is not None:
                table.normal_()
    return part


def image(height: int = 4, width: int = 3, dim: int = 6) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(1, height, width, dim, generator=draw, dtype=torch.float64)


def places(part: LocalAttention, y: int, x: int) -> Iterator[tuple[int, int]]:
    """The places j of a place i, row by row: its neighbours, or those of its window, also outside of the map."""
    k = part.kernel
    if part.sliding:
        yield from product(*([n + part.dilation * (i - k // 2) for i in range(k)] for n in (y, x)))
    else:
        before = k - part.shift if part.shift else 0
        yield from product(*((range(start, start + k)) for start in ((n + before) // k * k - before for n in (y, x))))


def plain(part: LocalAttention, grid: Tensor) -> Tensor:
    """The formula, one place and one head at a time; without the last linear."""
    _, height, width, dim = grid.shape
    heads, d, k = part.heads, part.head_dim, part.kernel
    mapped = grid[0] @ part.qkv.weight[:, :, 0, 0].t() + part.qkv.bias
    *used, v = mapped.split([*part.widths, dim], dim=2)
    q, key = used[0] if used else None, used[-1] if used else None

    def at(values: Tensor, place: tuple[int, int], head: int) -> Tensor:
        inside = 0 <= place[0] < height and 0 <= place[1] < width
        return values[place][head * d : (head + 1) * d] if inside else torch.zeros(d, dtype=torch.float64)

    out = torch.zeros(height, width, dim, dtype=torch.float64)
    side = k if part.sliding else 2 * k - 1
    for i, head in product(product(range(height), range(width)), range(heads)):
        logits, values = [], []
        for j in places(part, *i):
            step = part.dilation if part.sliding else 1
            row, column = ((b - a) // step + side // 2 for a, b in zip(i, j, strict=True))
            offset, total = row * side + column, torch.zeros((), dtype=torch.float64)
            if "qk" in part.terms:
                total = total + part.scale * at(q, i, head) @ at(key, j, head)
            if "qr" in part.terms:
                total = total + part.scale * at(q, i, head) @ part.r_k[head, offset]
            if "rk" in part.terms:
                total = total + part.scale * part.r_q[head, offset] @ at(key, j, head)
            if "r" in part.terms:
                total = total + part.r_b[head, offset]
            logits.append(total)
            values.append(at(v, j, head))
        filters = torch.stack(logits)
        if part.normalise == "softmax":
            filters = filters.exp() / filters.exp().sum()
        if part.normalise == "filter_norm":
            filters = (filters - filters.mean()) / filters.std() * 2**0.5 / k
        out[(*i, slice(head * d, (head + 1) * d))] = sum(f * value for f, value in zip(filters, values, strict=True))
    return out[None]


def run(part: LocalAttention, grid: Tensor) -> Tensor:
    return part(Tokens.of_grid(grid)).grid


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("terms", NETS)
@pytest.mark.parametrize("application", ["sliding", "window"])
@torch.no_grad()
def test_each_network_is_the_formula(terms: str, norm: str, application: str) -> None:
    """On a map that windows do not divide; windows also shifted."""
    for shifted in {False, application == "window"}:
        part = part_of(terms=terms, norm=norm, application=application, shifted=shifted)
        torch.testing.assert_close(run(part, image()), part.proj(plain(part, image())))


@torch.no_grad()
def test_dilated_neighbours_are_further_away() -> None:
    part = part_of(terms="qk+qr+rk+r", dilation=2, kernel=3)
    torch.testing.assert_close(run(part, image()), part.proj(plain(part, image())))


def bare(part: LocalAttention) -> LocalAttention:
    """With the identity for values and for the last linear."""
    with torch.no_grad():
        part.qkv.bias.zero_()
        part.qkv.weight[-part.dim :] = torch.eye(part.dim)[:, :, None, None]
        part.proj.weight.copy_(torch.eye(part.dim))
        part.proj.bias.zero_()
    return part


@torch.no_grad()
def test_relative_bias_of_each_channel_is_a_depthwise_convolution() -> None:
    part = bare(part_of(heads=None, kernel=5, terms="r", norm="identity"))
    x = image(7, 6)
    kernels = part.r_b.view(6, 1, 5, 5)
    expected = F.conv2d(x.permute(0, 3, 1, 2), kernels, padding=2, groups=6)
    torch.testing.assert_close(run(part, x).permute(0, 3, 1, 2), expected)


@torch.no_grad()
def test_content_with_a_softmax_is_attention_over_unfolded_neighbours() -> None:
    part = part_of(terms="qk")
    x = image(7, 6).permute(0, 3, 1, 2)
    q, k, v = part.qkv(x).chunk(3, dim=1)
    keys, values = (F.unfold(t, 3, padding=1).view(2, 3, 9, 42) for t in (k, v))  # (h, d, 9, N)
    weights = (torch.einsum("hdn,hdkn->hkn", q.view(2, 3, 42), keys) * 3**-0.5).softmax(1)
    mixed = torch.einsum("hkn,hdkn->nhd", weights, values).reshape(1, 7, 6, 6)
    torch.testing.assert_close(run(part, x.permute(0, 2, 3, 1)), part.proj(mixed))


@torch.no_grad()
def test_content_and_bias_in_windows_are_swins_attention() -> None:
    part = part_of(terms="qk+r", application="window", kernel=4)
    swin = WindowAttention(6, (8, 12), heads=2, window=4).double()
    swin.position = RelativeBias(2, (4, 4)).double()
    swin.qkv.weight.copy_(part.qkv.weight[:, :, 0, 0])
    swin.qkv.bias.copy_(part.qkv.bias)
    swin.proj.load_state_dict(part.proj.state_dict())
    swin.position.table.copy_(part.r_b.flip(1).t())  # it counts from the query
    x = image(8, 12)
    torch.testing.assert_close(run(part, x), swin(Tokens.of_grid(x)).grid)


@torch.no_grad()
def test_queries_and_offsets_are_a_dynamic_filter() -> None:
    """A 1x1 convolution of each place gives its filter."""
    part, x = bare(part_of(heads=1, terms="qr", norm="identity", scale=1.0)), image()
    network = part.r_k[0] @ part.qkv.weight[:6, :, 0, 0]  # (9, C)
    filters = x[0] @ network.t()
    padded = F.pad(x[0], (0, 0, 1, 1, 1, 1))
    expected = torch.zeros_like(x[0])
    for y, column, i, j in product(range(4), range(3), range(3), range(3)):
        expected[y, column] += filters[y, column, 3 * i + j] * padded[y + i, column + j]
    torch.testing.assert_close(run(part, x)[0], expected)


@pytest.mark.parametrize(("lam", "gamma"), [(0, 0.0), (0, 0.5), (1, 0.0), (2, 1.5)])
@torch.no_grad()
def test_hadamard_attention_with_ghost_heads(lam: int, gamma: float) -> None:
    part = part_of(terms="hadamard", group_width=3, lam=lam, gamma=gamma, scale=0.5)
    assert part.widths == [6, 6]  # 6 // 3 * 2 = 4, rounded up
    x = image(7, 6).permute(0, 3, 1, 2)
    q, k, v = part.qkv(x).split([6, 6, 6], dim=1)
    logits = part.logits(F.gelu(F.conv2d(0.5 * q * k, part.mix.weight, part.mix.bias, padding=1, groups=2)))
    weights = logits.view(2, 9, 42).softmax(1).repeat_interleave(3, dim=0)  # (C, 9, N)
    if lam:
        weights = weights * (part.ghost[0].view(6, 9, 1) ** lam)
    if gamma:
        weights = weights + gamma * part.ghost[-1].view(6, 9, 1)
    mixed = (weights * F.unfold(v, 3, padding=1).view(6, 9, 42)).sum(1).t().reshape(1, 7, 6, 6)
    torch.testing.assert_close(run(part, x.permute(0, 2, 3, 1)), part.proj(mixed))
    assert (part.ghost is None) == (lam == 0 == gamma)


def test_ghost_head_has_the_authors_shape_and_start() -> None:
    one, both = part_of(gamma=1.0), LocalAttention(48, heads=2, lam=1, gamma=1.0)
    assert one.ghost.shape == (1, 6, 3, 3)
    assert both.ghost.shape == (2, 1, 48, 7, 7)
    factors, summands = both.ghost.detach()
    assert factors.std().item() == pytest.approx(1, abs=0.05)
    assert summands.std().item() == pytest.approx(0.02, abs=0.002)


def test_filter_norm_of_a_constant_is_zero_and_has_a_gradient() -> None:
    filters = torch.full((2, 9), 3.0, requires_grad=True)
    normed = filter_norm(filters)
    normed.square().sum().backward()
    assert (normed == 0).all()
    assert filters.grad.isfinite().all()


def test_recorded_filters_cover_neighbours_or_windows() -> None:
    for application, shape in (("sliding", (1, 2, 12, 9)), ("window", (2, 2, 9, 9))):
        part = part_of(terms="r", application=application)
        with record_attention(part) as maps:
            run(part, image())
        (found,) = maps[""]
        assert found.shape == shape
        torch.testing.assert_close(found.sum(-1), torch.ones_like(found[..., 0]))


@pytest.mark.parametrize("application", ["sliding", "window"])
def test_each_network_is_set_on_swin(application: str) -> None:
    """One edit of a Swin-like model, and a second one for the shift of every other block."""
    x = torch.randn(1, 3, 32, 32)
    for terms, norm in zip(NETS, cycle(NORMS), strict=False):
        part = f"local(kernel=3, terms={terms}, norm={norm}, application={application})"
        edits = ["stages.*.position=none", f"stages.*.attention={part}", "stages.*.blocks.1.attention.shifted=true"]
        model = hexavit.create_model("swin_nano", overrides=edits)
        first, second = (block.attention for block in model.stages[0].blocks)
        assert (first.terms, first.normalise, first.heads) == (tuple(terms.split("+")), norm, 1)
        assert (first.shift, second.shift) == (0, 1)
        assert model.architecture == hexavit.Architecture.from_json(model.architecture.to_json())
    assert model.eval()(x).isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"terms": "qk+kq"}, "there is no term 'kq'"),
        ({"terms": "qk+qk"}, "terms are different ones of"),
        ({"terms": "hadamard+r"}, "or hadamard alone"),
        ({"norm": "sigmoid"}, "there is no norm 'sigmoid'"),
        ({"application": "windows"}, "there is no application 'windows'"),
        ({"kernel": 4}, "kernel must be odd"),
        ({"kernel": 0, "application": "window"}, "at least 1 token wide"),
        ({"kernel": 1, "norm": "filter_norm"}, "one value has no deviation"),
        ({"lam": -1}, "lam is at least 0"),
        ({"terms": "hadamard", "application": "window"}, "use application='sliding'"),
        ({"gamma": 1.0, "application": "window"}, "use application='sliding'"),
        ({"terms": "hadamard", "group_width": 0}, "group_width is at least 1"),
        ({"heads": 4}, "does not divide by 4 heads"),
        ({"dilation": 0}, "dilation is at least 1"),
    ],
)
def test_options_that_do_not_fit_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        part_of(**options)
