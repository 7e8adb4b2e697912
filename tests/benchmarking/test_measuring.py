"""Measuring: contenders, both sides of a case, and failures of one contender."""

from __future__ import annotations

import pytest
import torch

from hexavit.benchmarking import Case, contenders, measure, peers
from hexavit.benchmarking.engines import ENGINES, inference, training
from hexavit.benchmarking.measuring import _speeds
from hexavit.benchmarking.peers import build
from hexavit.errors import HexavitError

SIZE = (32, 32)


def test_contenders_are_those_that_have_the_model() -> None:
    assert contenders("cvt_13", ("timm", "transformers"), ("torch", "optimize")) == (
        ("hexavit", "torch"),
        ("hexavit", "optimize"),
        ("transformers", "torch"),
    )
    assert contenders("pvt_v2_b0", ("timm", "transformers", "vit-pytorch"), ("onnxruntime",)) == (
        ("hexavit", "onnxruntime"),
        ("timm", "onnxruntime"),
        ("transformers", "onnxruntime"),
    )
    assert contenders("cvt_13_vit_pytorch", ("vit-pytorch",), ("torch",)) == (
        ("hexavit", "torch"),
        ("vit-pytorch", "torch"),
    )


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    with pytest.raises(HexavitError, match="pip install vit-pytorch"):
        contenders("cvt_13", ("vit-pytorch",), ("torch",))


def test_all_contenders_are_timed_and_a_failed_one_is_named() -> None:
    pairs = (("hexavit", "torch"), ("timm", "torch"), ("hexavit", "optimize"))
    found = _speeds(Case("cvt_nano", SIZE, 1, pairs, rounds=2))  # timm has no cvt_nano
    assert [len(each) for each in found["seconds"]] == [2, 0, 2]
    assert found["errors"][0] == found["errors"][2] == ""
    assert "cvt_nano" in found["errors"][1]
    assert found["product_rate"] > 1e8
    assert found["macs"] > 1e6


@pytest.mark.parametrize(("library", "name"), [("hexavit", "deit_nano"), ("timm", "deit_tiny_patch16_224")])
def test_no_weight_is_one_that_engines_leave_out(library: str, name: str) -> None:
    """Such as a bias of zeros."""
    model = build(library, name, (224, 224))
    assert not [path for path, weight in model.named_parameters() if weight.min() == weight.max()]


@pytest.mark.parametrize("engine", [each for each in ENGINES if each != "compile"])  # see the slow test
def test_every_engine_gives_the_logits_of_the_model(engine: str) -> None:
    if engine in ("onnxruntime", "openvino"):
        pytest.importorskip(engine)
    images = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    model = build("hexavit", "pvt_v2_nano", SIZE).eval()
    with torch.no_grad():
        expected = model(images)
    found = torch.as_tensor(inference(model, images, engine)())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_training_step_changes_the_weights_and_drops_no_path() -> None:
    model = build("hexavit", "swin_nano", SIZE)
    before = [each.clone() for each in model.parameters()]
    training(model, torch.randn(2, 3, *SIZE), "torch")()
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not any(getattr(module, "drop_prob", 0) for module in model.modules())


@pytest.mark.slow
def test_speed_and_memory_are_measured_in_processes_of_their_own() -> None:
    pairs = (("hexavit", "torch"), ("hexavit", "compile"), ("transformers", "torch"))
    found = measure(Case("cvt_13", (64, 64), 1, pairs, rounds=2))
    assert not any(each.error for each in found.measured)
    assert all(each.peak_bytes and each.peak_bytes > 0 for each in found.measured)
    with pytest.raises(HexavitError, match="no_such could not be measured"):
        measure(Case("no_such", (64, 64), 1, pairs))
