"""Starting weights by scheme."""

import pytest
import torch

import hexavit
from hexavit.network.initialisation import SCHEMES

NORMAL = ("trunc_normal", "fan_out", "trunc_normal_convs", "trunc_normal_all", "constant_biases")


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
    if scheme == "constant_biases":
        assert bias == pytest.approx(0.02)
    else:
        assert bias == 0 if scheme in (*NORMAL, "xavier") else 0 < bias < (1e-5 if scheme == "vit" else 1)
    assert token.std().item() == pytest.approx({"vit": 0.0, "default": 1.0}.get(scheme, 0.02), rel=0.3)
    if scheme in (*NORMAL, "xavier"):
        assert head.weight.std().item() == pytest.approx(0.02, rel=0.03)
    assert (head.bias.abs().max().item() == 0) == (scheme in ("vit", "fan_out", "trunc_normal_all"))
    assert torch.equal(block.attention_residual.norm.weight, torch.ones(128))
    shift = torch.full((128,), 0.02 if scheme == "constant_biases" else 0.0)
    assert torch.equal(block.attention_residual.norm.bias, shift)


@pytest.mark.parametrize(
    ("scheme", "spread"),
    [("fan_out", (2 / (9 * 128)) ** 0.5), ("trunc_normal_convs", 0.02), ("trunc_normal_all", 0.02)],
)
def test_schemes_that_draw_convolutions(scheme: str, spread: float) -> None:
    torch.manual_seed(0)
    conv = hexavit.create_model("cvt_nano", overrides=[f"init={scheme}"]).stages[2].tokens.conv
    assert conv.weight.std().item() == pytest.approx(spread, rel=0.03)
    assert (conv.bias.abs().max().item() == 0) == (scheme in ("fan_out", "trunc_normal_all"))


@pytest.mark.parametrize("name", ["pvt_v2_nano", "twins_pcpvt_nano", "twins_svt_nano", "rest_nano", "shuffle_nano"])
def test_convolutions_start_as_the_authors_draw_them(name: str) -> None:
    """PVT v2 and Twins: normal of variance 2 / (k^2 C_out / groups), bias 0. ResT, Shuffle: truncated normal 0.02."""
    torch.manual_seed(0)
    model = hexavit.create_model(name)
    convs = [each for each in model.modules() if isinstance(each, torch.nn.Conv2d) and each.weight.numel() > 500]
    assert convs
    for conv in convs:
        kernel, outputs = conv.kernel_size[0], conv.out_channels // conv.groups
        spread = 0.02 if name in ("rest_nano", "shuffle_nano") else (2 / (kernel**2 * outputs)) ** 0.5
        assert conv.weight.std().item() == pytest.approx(spread, rel=0.15)
        assert name == "rest_nano" or conv.bias is None or not conv.bias.any()


def test_swin_v2_starts_as_the_identity() -> None:
    """As ``_init_respostnorm`` of microsoft/Swin-Transformer: the norms behind the branches start at 0."""
    torch.manual_seed(0)
    model = hexavit.create_model("swin_v2_nano")
    for block in (block for stage in model.stages for block in stage.blocks):
        for norm in (block.attention_residual.norm, block.feedforward_residual.norm):
            assert not norm.weight.any()
            assert not norm.bias.any()
    x = torch.randn(2, 64, 32)
    assert torch.equal(model.stages[0].blocks[1].eval()(x, size=(8, 8)), x)


@pytest.mark.parametrize(
    ("name", "edits", "branches", "last", "scaled"),
    [
        ("deit_nano", [], 8, "fc2", {"attention.qkv": -1 / 2, "feedforward.fc1": -1 / 2}),
        (
            "deit_nano",
            ["stages.0.feedforward=conv_mlp(excite=se)", "stages.0.attention=talking_heads"],
            8,
            "fc2",
            {"attention.mix_after": -1 / 2, "feedforward.conv": -1 / 4, "feedforward.excite.fc2": -1 / 4},
        ),
        ("cait_nano", [], 8, "fc2", {"attention.qkv": -1 / 2}),
    ],
)
def test_fixup_starts_its_branches_by_the_papers_rule(
    name: str, edits: list[str], branches: int, last: str, scaled: dict[str, float]
) -> None:
    def block(residual: str) -> torch.nn.Module:
        torch.manual_seed(0)
        return hexavit.create_model(name, overrides=[*edits, f"stages.0.residual={residual}"]).stages[0].blocks[1]

    plain, fixed = block("rezero"), block("fixup")
    assert not fixed.attention.proj.weight.any()
    assert not fixed.get_submodule(f"feedforward.{last}").weight.any()
    for path, power in scaled.items():
        expected = plain.get_submodule(path).weight * branches**power
        torch.testing.assert_close(fixed.get_submodule(path).weight, expected)
    x = torch.randn(2, 16, 96)
    torch.testing.assert_close(fixed.eval()(x, size=(4, 4)), x)  # it starts as the identity


def test_fixup_learns_all_the_same() -> None:
    torch.manual_seed(0)
    model = hexavit.create_model("deit_nano", num_classes=10, overrides=["stages.0.residual=fixup", "head=class_token"])
    before = {k: v.clone() for k, v in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(3):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.arange(4))
        loss.backward()
        optimizer.step()
    assert not [k for k, v in model.named_parameters() if ".blocks." in k and torch.equal(v, before[k])]
