"""Starting weights by scheme."""

import pytest
import torch

import hexavit
from hexavit.initialisation import SCHEMES

NORMAL = ("trunc_normal", "fan_out", "trunc_normal_convs")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_schemes(scheme: str) -> None:
    torch.manual_seed(0)
    model = hexavit.create_model("cvt_nano", overrides=[f"init={scheme}"])
    block = model.stages[2].blocks[0]
    fc1, token, head = block.feedforward.fc1, model.stages[2].class_token, model.head.fc
    xavier = (6 / (fc1.in_features + fc1.out_features)) ** 0.5 / 3**0.5
    spread = {"xavier": xavier, "vit": xavier, "default": (1 / 3 / fc1.in_features) ** 0.5}
    assert fc1.weight.std().item() == pytest.approx(spread.get(scheme, 0.02), rel=0.03)
    bias = fc1.bias.abs().max().item()
    assert bias == 0 if scheme in (*NORMAL, "xavier") else 0 < bias < (1e-5 if scheme == "vit" else 1)
    assert token.std().item() == pytest.approx({"vit": 0.0, "default": 1.0}.get(scheme, 0.02), rel=0.3)
    if scheme in (*NORMAL, "xavier"):
        assert head.weight.std().item() == pytest.approx(0.02, rel=0.03)
    assert (head.bias.abs().max().item() == 0) == (scheme in ("vit", "fan_out"))
    assert torch.equal(block.attention_residual.norm.weight, torch.ones(128))


@pytest.mark.parametrize(("scheme", "spread"), [("fan_out", (2 / (9 * 128)) ** 0.5), ("trunc_normal_convs", 0.02)])
def test_schemes_that_draw_convolutions(scheme: str, spread: float) -> None:
    torch.manual_seed(0)
    conv = hexavit.create_model("cvt_nano", overrides=[f"init={scheme}"]).stages[2].tokens.conv
    assert conv.weight.std().item() == pytest.approx(spread, rel=0.03)
    assert (conv.bias.abs().max().item() == 0) == (scheme == "fan_out")
