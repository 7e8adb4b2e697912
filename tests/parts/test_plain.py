"""What counts as plain inference, and that its products are the ordinary ones."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode

import hexavit
from hexavit.parts import plain as room
from hexavit.parts.plain import altered, in_pieces, multiplied, plain, product

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
    layer, x = nn.Linear(6, 5, bias=bias), SHAPES[shape]()
    expected = F.linear(x, layer.weight, layer.bias).detach()
    with torch.no_grad():
        found = product(layer, x)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
    assert not found.requires_grad
    assert found.is_contiguous()


def test_the_product_reads_any_weight() -> None:
    weight, x = torch.randn(6, 5).t(), torch.randn(3, 6)
    with torch.no_grad():
        torch.testing.assert_close(multiplied(x, weight, None), x @ weight.t())
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            multiplied(x[:, :4], weight, None)


class Through(nn.Module):
    """A part with one linear."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return product(self.layer, x)


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
        lambda: torch.device("cpu"),
    ],
    ids=["gradients", "autocast", "counter", "tangents", "functions"],
)
def test_whatever_watches_sees_the_ordinary_product(
    context: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Tensor:
        raise AssertionError("oneDNN's own product was called")

    monkeypatch.setattr(room, "_ONEDNN", refuse)
    layer, x = Through(), torch.randn(3, 6)
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


class Wrapper(nn.Module):
    """As adapters wrap a linear: what it gives, and more."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + 1  # type: ignore[no-any-return]


def hooked(layer: nn.Linear) -> nn.Module:
    layer.register_forward_hook(lambda module, given, out: out + 1)
    return layer


def hooked_before(layer: nn.Linear) -> nn.Module:
    layer.register_forward_pre_hook(lambda module, given: (given[0] + 1,))
    return layer


def patched(layer: nn.Linear) -> nn.Module:
    layer.forward = lambda x: F.linear(x, layer.weight, layer.bias) + 1  # type: ignore[method-assign]
    return layer


def parametrized(layer: nn.Linear) -> nn.Module:
    return parametrize.register_parametrization(layer, "weight", Wrapper(nn.Identity()))  # type: ignore[arg-type]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("change", [hooked, hooked_before, patched, parametrized, Wrapper])
def test_a_linear_that_somebody_changed_is_called(change: Callable[[nn.Linear], nn.Module], bias: bool) -> None:
    layer, x, more = change(nn.Linear(6, 5, bias=bias)), torch.randn(3, 6), torch.randn(5)
    with torch.no_grad():
        assert torch.equal(product(layer, x), layer(x))
        assert torch.equal(product(layer, x, more), layer(x) + more)


def test_a_hook_on_every_module_is_called_too() -> None:
    seen: list[nn.Module] = []
    handle = register_module_forward_hook(lambda module, given, out: seen.append(module))
    layer = nn.Linear(6, 5)
    try:
        assert altered(layer)
        with torch.no_grad():
            product(layer, torch.randn(3, 6))
    finally:
        handle.remove()
    assert seen == [layer]
    assert not altered(layer)


@pytest.mark.parametrize("grad", [True, False])
def test_a_bias_given_apart_is_that_of_the_product(grad: bool) -> None:
    layer, x, bias = nn.Linear(6, 5, bias=False), torch.randn(3, 6), torch.randn(5)
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(product(layer, x, bias), F.linear(x, layer.weight, bias))


NANO = ("pvt_nano", "pvt_v2_nano", "twins_svt_nano", "rest_nano", "p2t_nano", "swin_nano", "swin_v2_nano")


@pytest.mark.parametrize("name", NANO)
def test_hooks_see_in_plain_inference_what_they_see_in_training(name: str) -> None:
    """Each linear once, with all tokens."""
    model = hexavit.create_model(name, num_classes=5).eval()
    linears = {path: m for path, m in model.named_modules() if isinstance(m, nn.Linear)}
    assert {type(m) for m in linears.values()} == {nn.Linear}  # quantisers and counters know them by their class
    seen: list[tuple[str, torch.Size]] = []
    for path, layer in linears.items():
        layer.register_forward_hook(lambda m, given, out, path=path: seen.append((path, out.shape)))
    x = torch.randn(2, 3, 32, 32)
    model(x)
    learning, seen = seen, []
    with torch.no_grad():
        model(x)
    assert sorted(seen) == sorted(learning)
    inside_positions = {path for path in linears if ".position." in path}
    assert {path for path, _ in seen} >= set(linears) - inside_positions


def test_a_build_without_onednn_goes_the_ordinary_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_ONEDNN", None)
    layer, x = nn.Linear(6, 5), torch.randn(3, 6)
    with torch.no_grad():
        assert torch.equal(product(layer, x), F.linear(x, layer.weight, layer.bias))


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
