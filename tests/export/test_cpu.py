"""`hexavit.optimize` gives the same outputs, keeps only what is faster, and leaves the model as it was."""

from functools import partial

import pytest
import torch
from torch import nn

import hexavit
from hexavit import HexavitError
from hexavit.export import cpu, fast_modules, optimize

NANO = hexavit.list_models("*nano*")


def with_statistics(model: nn.Module) -> nn.Module:
    """Batch norms that do something: their statistics are not those of a fresh model."""
    generator = torch.Generator().manual_seed(1)
    for each in model.modules():
        if isinstance(each, nn.BatchNorm2d):
            each.running_mean.copy_(torch.randn(each.num_features, generator=generator) / 4)
            each.running_var.copy_(torch.rand(each.num_features, generator=generator) + 0.5)
    return model


@pytest.mark.parametrize("name", NANO)
def test_every_change_gives_the_same_logits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_modules, "PIECE", 2**12)  # so that these small models are cut into pieces too
    monkeypatch.setattr(cpu, "_times", lambda one, other: (1.0, 0.5))
    torch.manual_seed(0)
    model = with_statistics(hexavit.create_model(name, num_classes=7))
    fast = optimize(model, batch_size=2)
    assert fast.optimization.kept
    assert all(swap.kept for swap in fast.optimization.swaps)
    for size in (model.architecture.img_size, (model.architecture.img_size[0] + 32, model.architecture.img_size[1])):
        x = torch.randn(3, model.architecture.in_chans, *size)
        with torch.no_grad():
            expected = model.eval()(x)
            assert (fast(x) - expected).abs().max() <= 2e-5 * expected.abs().max()


def test_the_model_itself_stays_as_it_is() -> None:
    model = hexavit.create_model("cvt_nano")
    before, kinds = dict(model.state_dict()), [type(m) for m in model.modules()]
    optimize(model, batch_size=1)
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert [type(m) for m in model.modules()] == kinds
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(after[key].data_ptr() == tensor.data_ptr() for key, tensor in before.items())


@pytest.mark.parametrize(("times", "kept"), [((1.05, 1.0), True), ((1.04, 1.0), False), ((1.0, 2.0), False)])
def test_a_change_is_kept_from_the_requested_speed_up_on(
    times: tuple[float, float], kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "_times", lambda one, other: times)
    fast = optimize(hexavit.create_model("deit_nano"), batch_size=1)
    assert {swap.kept for swap in fast.optimization.swaps} == {kept}
    assert any(isinstance(m, fast_modules.PointwiseConv) for m in fast.modules()) == kept


def test_no_change_is_kept_if_the_whole_model_is_not_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    def times(one: object, other: object) -> tuple[float, float]:
        return (2.0, 1.0) if isinstance(one, partial) else (1.0, 1.0)  # a module is timed with its inputs bound

    monkeypatch.setattr(cpu, "_times", times)
    fast = optimize(hexavit.create_model("deit_nano"), batch_size=1)
    assert not fast.optimization.kept
    assert not any(isinstance(m, fast_modules.PointwiseConv) for m in fast.modules())


@pytest.mark.parametrize(("piece", "save", "kept"), [(2**12, True, True), (2**12, False, False), (2**21, True, False)])
def test_pieces_that_save_memory_are_kept_on_request(
    piece: int, save: bool, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens that fit in one piece take no less memory in pieces."""
    monkeypatch.setattr(fast_modules, "PIECE", piece)
    monkeypatch.setattr(cpu, "_times", lambda one, other: (1.0, 2.0))
    for name in ("deit_nano", "pvt_v2_nano"):
        fast = optimize(hexavit.create_model(name, img_size=64), batch_size=2, save_memory=save)
        assert any(isinstance(m, fast_modules.FeedforwardInPieces) for m in fast.modules()) == kept, name
        assert {swap.change for swap in fast.optimization.kept} == ({cpu.CHANGES[-1][0]} if kept else set()), name


def test_modules_with_hooks_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_times", lambda one, other: (1.0, 0.5))
    model = hexavit.create_model("deit_nano")
    seen: list[torch.Size] = []
    hooked = next(name for name, m in model.named_modules() if isinstance(m, nn.Linear))
    model.get_submodule(hooked).register_forward_hook(lambda m, args, out: seen.append(out.shape))
    fast = optimize(model, batch_size=1)
    assert isinstance(fast.get_submodule(hooked), nn.Linear)
    seen.clear()
    fast(torch.randn(1, *fast.pretrained_cfg.get("input_size", (3, 32, 32))))
    assert len(seen) == 1


def test_the_report_names_what_was_tried_and_for_which_input() -> None:
    report = optimize(hexavit.create_model("cvt_nano"), batch_size=2).optimization
    assert (report.batch_size, report.img_size) == (2, (32, 32))
    text = str(report)
    assert "batch norms folded" in text
    assert "2 images of 32 x 32" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.half(), "is torch.float16 on cpu: move the model with .cpu"),
        (lambda m: m.to("meta"), "is torch.float32 on meta"),
    ],
)
def test_other_precisions_and_devices_are_errors(change: object, message: str) -> None:
    model = change(hexavit.create_model("cvt_nano"))  # type: ignore[operator]
    with pytest.raises(HexavitError, match=message):
        optimize(model)


def test_wrong_arguments_are_errors() -> None:
    with pytest.raises(HexavitError, match="a model of hexavit, not Linear"):
        optimize(nn.Linear(2, 2))  # type: ignore[type-var]
    with pytest.raises(HexavitError, match="batch_size must be at least 1, not 0"):
        optimize(hexavit.create_model("cvt_nano"), batch_size=0)
    with pytest.raises(HexavitError, match="img_size"):
        optimize(hexavit.create_model("cvt_nano"), img_size=0)


def test_feature_backbones_are_optimized_too() -> None:
    model = hexavit.create_model("pvt_v2_nano", features_only=True).eval()
    fast = optimize(model, batch_size=1)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for level, expected in zip(fast(x), model(x), strict=True):
            assert (level - expected).abs().max() <= 2e-5 * expected.abs().max()
