"""Starting weights by scheme."""

import pytest
import torch

import hexavit


@pytest.mark.parametrize("scheme", ["trunc_normal", "xavier", "vit", "default"])
def test_schemes(scheme: str) -> None:
    torch.manual_seed(0)
    model = hexavit.create_model("cvt_nano", overrides=[f"init={scheme}"])
    block = model.stages[2].blocks[0]
    fc1, token, head = block.feedforward.fc1, model.stages[2].class_token, model.head.fc
    xavier = (6 / (fc1.in_features + fc1.out_features)) ** 0.5 / 3**0.5
    spread = {"trunc_normal": 0.02, "xavier": xavier, "vit": xavier, "default": (1 / 3 / fc1.in_features) ** 0.5}
    assert fc1.weight.std().item() == pytest.approx(spread[scheme], rel=0.03)
    bias = fc1.bias.abs().max().item()
    assert bias == 0 if scheme in ("trunc_normal", "xavier") else 0 < bias < (1e-5 if scheme == "vit" else 1)
    assert token.std().item() == pytest.approx({"vit": 0.0, "default": 1.0}.get(scheme, 0.02), rel=0.3)
    if scheme in ("trunc_normal", "xavier"):
        assert head.weight.std().item() == pytest.approx(0.02, rel=0.03)
    assert (head.bias.abs().max().item() == 0) == (scheme == "vit")
    assert torch.equal(block.attention_residual.norm.weight, torch.ones(128))
