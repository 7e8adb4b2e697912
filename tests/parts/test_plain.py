"""What counts as plain inference, and that its products are the ordinary ones."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from hexavit.parts import plain as room
from hexavit.parts.plain import Linear, in_pieces, linear, plain

SHAPES = {
    "one row": lambda: torch.randn(6),
    "none": lambda: torch.randn(0, 6),
    "four axes": lambda: torch.randn(2, 3, 4, 6),
    "transposed": lambda: torch.randn(2, 6, 5).transpose(1, 2),
    "part of wider rows": lambda: torch.randn(2, 5, 9)[..., :6],
    "expanded": lambda: torch.randn(1, 6).expand(4, 6),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_product_is_torchs(shape: str, bias: bool) -> None:
    layer, x = Linear(6, 5, bias=bias), SHAPES[shape]()
    expected = F.linear(x, layer.weight, layer.bias).detach()
    with torch.no_grad():
        found = layer(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
    assert not found.requires_grad
    assert found.is_contiguous()


def test_the_product_reads_any_weight() -> None:
    weight, x = torch.randn(6, 5).t(), torch.randn(3, 6)
    with torch.no_grad():
        torch.testing.assert_close(linear(x, weight, None), x @ weight.t())
        assert linear(x.double(), weight.double(), None).dtype == torch.float64


@contextmanager
def _gradients() -> Iterator[None]:
    with torch.enable_grad():
        yield


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    "context",
    [
        _gradients,
        lambda: torch.autocast("cpu", torch.bfloat16),
        lambda: FlopCounterMode(display=False),
        forward_ad.dual_level,
    ],
    ids=["gradients", "autocast", "counter", "tangents"],
)
def test_whatever_watches_sees_the_ordinary_product(
    context: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Tensor:
        raise AssertionError("oneDNN's own product was called")

    monkeypatch.setattr(room, "_ONEDNN", refuse)
    layer, x = Linear(6, 5), torch.randn(3, 6)
    with torch.no_grad():
        assert plain(x)
        with context():  # type: ignore[attr-defined]
            assert not plain(x)
            layer(x)
        torch.func.vmap(layer)(x)
        torch.jit.trace(layer, x, check_trace=False)
        torch.export.export(layer, (x,))
        torch.backends.mkldnn.set_flags(_enabled=False)
        try:
            layer(x)
        finally:
            torch.backends.mkldnn.set_flags(_enabled=True)
        layer.double()(x.double())


def test_a_build_without_onednn_goes_the_ordinary_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_ONEDNN", None)
    layer, x = Linear(6, 5), torch.randn(3, 6)
    with torch.no_grad():
        assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))


def test_pieces_are_even_and_cover_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PIECE", 12)
    x = torch.arange(14.0).view(7, 2)
    calls: list[int] = []

    def double(given: Tensor) -> Tensor:
        calls.append(len(given))
        return given * 2

    for width, expected in {2: [4, 3], 1: [7], 5: [2, 2, 2, 1], 100: [1] * 7}.items():
        calls.clear()
        assert torch.equal(in_pieces(double, x, width), x * 2)
        assert calls == expected
    assert in_pieces(double, x[:0], 3).shape == (0, 2)


def test_a_linear_is_a_linear() -> None:
    assert isinstance(Linear(2, 3), nn.Linear)
    assert str(Linear(2, 3)) == "Linear(in_features=2, out_features=3, bias=True)"
