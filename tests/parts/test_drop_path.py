"""Stochastic depth: its rates over the blocks, and that what it drops is made up for by what it keeps."""

import pytest
import torch

import hexavit
from hexavit.parts import Tokens
from hexavit.parts.layers import DropPath
from hexavit.parts.residual import PostNorm, PreNorm


def rates(ramp: str) -> list[list[float]]:
    edits = [
        "stages.*.drop_path=0.2",
        f"stages.*.ramp={ramp}",
        "stages.0.depth=2",
        "stages.1.depth=1",
        "stages.2.depth=3",
    ]
    model = hexavit.create_model("cvt_nano", overrides=edits)
    return [[block.attention_residual.drop_path.rate for block in stage.blocks] for stage in model.stages]


@pytest.mark.parametrize(
    ("ramp", "expected"),
    [
        ("stage", [[0, 0.2], [0], [0, 0.1, 0.2]]),
        ("model", [[0, 0.04], [0.08], [0.12, 0.16, 0.2]]),
        ("constant", [[0.2, 0.2], [0.2], [0.2, 0.2, 0.2]]),
    ],
)
def test_ramps(ramp: str, expected: list[list[float]]) -> None:
    assert [pytest.approx(stage) for stage in expected] == rates(ramp)


def test_both_branches_of_a_block_drop_alike() -> None:
    model = hexavit.create_model("cvt_13")
    assert [
        (block.attention_residual.drop_path.rate, block.feedforward_residual.drop_path.rate)
        for block in model.stages[2].blocks
    ] == [(pytest.approx(0.1 * k / 9),) * 2 for k in range(10)]


def test_a_mask_is_zero_or_makes_up_for_what_is_dropped() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.25)
    mask = drop.train().mask(torch.zeros(20_000, 3, 2))
    assert mask.shape == (20_000, 1, 1)
    assert mask.unique().tolist() == pytest.approx([0, 4 / 3])
    assert mask.mean().item() == pytest.approx(1, abs=0.02)
    assert drop.eval().mask(torch.zeros(2, 3, 2)) is None
    assert DropPath(0.0).train().mask(torch.zeros(2, 3, 2)) is None


@pytest.mark.parametrize("joined", [True, False])
def test_a_residual_keeps_the_expected_sum(joined: bool) -> None:
    """Over many draws it gives what it gives in eval mode; a dropped image keeps its skip, class token included."""
    torch.manual_seed(0)
    residual = PreNorm(4, 1, 1e-6, 0.3)
    one = torch.randn(1, 1 + 6, 4).expand(8_000, -1, -1)
    tokens = Tokens(one, (3, 2), prefix=1)
    tokens = tokens if joined else tokens.split()

    def branch(x: Tokens) -> Tokens:
        return x.each(lambda t: 2 * t)

    whole, drawn = residual.eval()(tokens, branch).sequence, residual.train()(tokens, branch).sequence
    torch.testing.assert_close(drawn.mean(0), whole[0], atol=0.05, rtol=0)
    dropped = (drawn == one).flatten(1).all(1)
    assert dropped.float().mean().item() == pytest.approx(0.3, abs=0.02)
    kept = one[0] + (whole[0] - one[0]) / 0.7
    torch.testing.assert_close(drawn[~dropped], kept.expand((~dropped).sum(), -1, -1))


def test_post_norm_norms_the_skip_of_what_was_dropped() -> None:
    torch.manual_seed(0)
    residual = PostNorm(4, 1, 1e-6, 0.999).train()
    tokens = Tokens(torch.randn(2, 6, 4), (3, 2))
    torch.testing.assert_close(residual(tokens, lambda x: x).image, residual.norm(tokens.image))


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_rates_that_are_no_probability_are_rejected(rate: float) -> None:
    with pytest.raises(ValueError, match=r"drop_path is a probability in \[0, 1\)"):
        DropPath(rate)


def test_drop_path_alone_may_be_in_training_mode() -> None:
    """As for the spread of predictions under dropout: the rest of the model stays in evaluation mode."""
    torch.manual_seed(0)
    model = hexavit.create_model("deit_nano", drop_path_rate=0.5).eval()
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        exact = model(images)
        assert torch.equal(model(images), exact)
        for module in model.modules():
            if isinstance(module, DropPath):
                module.train()
        assert not torch.allclose(model(images), exact)
