"""Several resolutions side by side: the parts against plain computations, and the blocks and maps of each."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hexavit
from hexavit import HexavitError, Part
from hexavit.parts import Tokens
from hexavit.parts.contract import halves
from hexavit.parts.feedforward import ResolutionFusion
from hexavit.parts.tokens import AddResolution, JoinResolutions

pytestmark = pytest.mark.usefixtures("one_thread")


def stirred(module: nn.Module) -> nn.Module:
    """Random weights and statistics, in float64."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape)
                tensor.copy_(0.5 + noise.abs() if name.endswith("running_var") else 0.3 * noise)
    return module.eval().double()


def several(size: tuple[int, int], dim: int, count: int, extra: int = 0) -> tuple[Tokens, list[Tensor]]:
    """Tokens with `count` lower resolutions, and all as maps (B, C, H, W)."""
    torch.manual_seed(1)
    maps = [torch.randn(2, dim * 2**r, *each).double() for r, each in enumerate(halves(size, count))]
    tokens = Tokens.of_map(maps[0]).with_carry(
        **{f"resolution{r}": maps[r].permute(0, 2, 3, 1) for r in range(1, count + 1)}
    )
    return (tokens.with_extra(torch.randn(2, extra, dim).double()) if extra else tokens), maps


def lower(tokens: Tokens, count: int) -> list[Tensor]:
    return [tokens.carry[f"resolution{r}"].permute(0, 3, 1, 2) for r in range(1, count + 1)]


def normed(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    mean, var, weight, bias = (
        state[f"{name}.{end}"][:, None, None] for end in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def fused(maps: list[Tensor], state: dict[str, Tensor]) -> list[Tensor]:
    """The sums of a fusion, term by term from a state dict."""
    out = []
    for i in range(len(maps)):
        total = maps[i]
        for j, x in enumerate(maps):
            path = f"paths.{i}.{j}"
            if j > i:
                x = normed(F.conv2d(x, state[f"{path}.0.weight"]), state, f"{path}.1")
                x = x.repeat_interleave(2 ** (j - i), 2).repeat_interleave(2 ** (j - i), 3)
                x = aligned(x, maps[i].shape[2], maps[i].shape[3])
            for k in range(i - j):
                step = f"{path}.{k}"
                x = F.conv2d(x, state[f"{step}.0.weight"], stride=2, padding=1, groups=x.shape[1])
                x = normed(x, state, f"{step}.1")
                x = normed(F.conv2d(x, state[f"{step}.2.weight"]), state, f"{step}.3")
                x = x.relu() if k < i - j - 1 else x
            total = total if i == j else total + x
        out.append(total.relu())
    return out


def aligned(x: Tensor, h: int, w: int) -> Tensor:
    """Bilinear to (h, w), the corners on the corners."""
    for axis, n in ((2, h), (3, w)):
        m = x.shape[axis]
        at = torch.arange(n).double() * ((m - 1) / (n - 1) if n > 1 else 0)
        below = at.floor().long().clamp(max=m - 1)
        part = (at - below).view((-1, 1) if axis == 2 else (-1,))
        x = x.index_select(axis, below) * (1 - part) + x.index_select(axis, (below + 1).clamp(max=m - 1)) * part
    return x


@pytest.mark.parametrize(("size", "count"), [((8, 8), 3), ((9, 7), 2), ((5, 3), 1)])
def test_fusion_is_the_sum_over_all_resolutions(size: tuple[int, int], count: int) -> None:
    part = stirred(ResolutionFusion(4, tuple(4 * 2**r for r in range(1, count + 1))))
    tokens, maps = several(size, 4, count, extra=1)
    out = part(tokens)
    expected = fused(maps, part.state_dict())
    torch.testing.assert_close((tokens.map + out.map).relu(), expected[0])  # as `post_act` adds it
    for found, one in zip(lower(out, count), expected[1:], strict=True):
        torch.testing.assert_close(found, one)
    assert not out.extra.any()


def test_a_new_resolution_is_a_convolution_of_the_lowest() -> None:
    part = stirred(AddResolution(4, 4, 0, (8,)))
    tokens, maps = several((7, 6), 4, 1)
    out, state = part(tokens), part.state_dict()
    assert part.lower_dims == (8, 16)
    new = normed(F.conv2d(maps[1], state["new.0.weight"], stride=2, padding=1), state, "new.1").relu()
    torch.testing.assert_close(lower(out, 2)[1], new)
    assert torch.equal(out.image, tokens.image)
    assert torch.equal(lower(out, 2)[0], maps[1])
    wider = stirred(AddResolution(6, 4, 1, ()))
    assert wider(
        Tokens.of_map(torch.randn(1, 6, 4, 4).double()).with_extra(torch.randn(1, 1, 6).double())
    ).extra.shape == (1, 1, 4)


def test_all_resolutions_are_joined_from_the_highest_on() -> None:
    part = stirred(JoinResolutions(4, 10, 0, (8, 16), inner=3))
    tokens, maps = several((9, 7), 4, 2)
    y = part.bottlenecks[0](maps[0])
    for down, bottleneck, x in zip(part.down, part.bottlenecks[1:], maps[1:], strict=True):
        y = bottleneck(x) + down(y)
    out = part(tokens)
    torch.testing.assert_close(out.map, part.final(y))
    assert out.size == part.out_size((9, 7)) == (3, 2)


def test_each_resolution_has_blocks_of_its_width_and_heads() -> None:
    model = hexavit.create_model("hrt_nano")
    block = model.stages[3].blocks[0]
    assert [(b.attention.dim, b.attention.heads) for b in (block, *block.lower_blocks)] == [
        (12, 1),
        (24, 2),
        (48, 4),
        (96, 8),
    ]
    assert [b.feedforward2.hidden for b in (block, *block.lower_blocks)] == [48, 96, 192, 384]
    assert not any(hasattr(b, "fusion") for b in block.lower_blocks)


def test_layers_of_a_block_have_rates_of_their_own() -> None:
    model = hexavit.create_model("hrt_nano", overrides=[f"stages.{i}.drop_path=0.7" for i in (1, 2, 3)])
    blocks = [block for stage in model.stages[1:4] for block in stage.blocks]
    rates = [
        [residual.drop_path.rate for residual in (b.attention_residual, b.feedforward2_residual, b.fusion_residual)]
        for b in blocks
    ]
    expected = [[0.7 * n / 7, 0.7 * (n + 1) / 7, 0] for n in (2, 4, 6)]  # behind the two layers of the first stage
    assert rates == [pytest.approx(row) for row in expected]
    assert blocks[2].lower["2"].attention2_residual.drop_path.rate == pytest.approx(0.7)


def test_maps_of_each_resolution_have_hooks() -> None:
    model, seen = hexavit.create_model("hrt_nano").eval(), {}
    for name, place in model.stages[3].lower.items():
        place["output_map"].register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    x = torch.randn(1, 3, 40, 36)
    maps = model.forward_intermediates(x, intermediates_only=True)
    assert [tuple(m.shape[1:]) for m in maps] == [(12, 10, 9), (24, 5, 5), (48, 3, 3), (96, 2, 2)]
    assert all(torch.equal(seen[str(r)], maps[r]) for r in (1, 2, 3))
    before = model(x)
    model.stages[3].lower["2"]["output_map"].register_forward_hook(lambda _, __, out: torch.zeros_like(out))
    assert not torch.equal(model(x), before)  # the model goes on with what a hook gives


@pytest.mark.parametrize("indices", [(0,), (3,), (0, 1), (1, 2)])
def test_features_of_some_resolutions_hold_no_other_weights(indices: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    whole = hexavit.create_model("hrt_nano", features_only=True).eval()
    some = hexavit.create_model("hrt_nano", features_only=True, out_indices=indices).eval()
    some.load_state_dict({key: t for key, t in whole.state_dict().items() if key in some.state_dict()})
    x = torch.randn(1, 3, 32, 32)
    found, every = some(x), whole(x)
    assert all(torch.equal(m, every[i]) for m, i in zip(found, indices, strict=True))
    assert some.feature_info.reduction() == [4 * 2**i for i in indices]
    sum(m.square().sum() for m in found).backward()
    assert not [name for name, p in some.named_parameters() if p.grad is None]


def test_a_class_token_passes_all_resolutions() -> None:
    model = hexavit.create_model("hrt_nano", overrides=["head=class_token(enter=0)"])
    assert model.eval()(torch.randn(1, 3, 40, 36)).shape == (1, 1000)
    assert model.num_extra_tokens == 1


@pytest.mark.parametrize(
    ("edits", "sentence"),
    [
        (["stages.1.tokens=keep"], "takes 'resolution1', which no part before it gives: use add_resolution"),
        (["stages.2.tokens=conv(kernel=2, stride=2)"], "the stage has one resolution: use tokens=add_resolution"),
        (
            ["stages.1.attention=spatial_reduction(method=pyramid)", "stages.1.position=none"],
            r"attention=spatial_reduction\(.*\) shares weights between blocks, which lower resolutions of",
        ),
        (
            ["stages.1.attention=conv_bottleneck(stride=2)", "stages.1.position=none"],
            "lower.1 changes its grid, which lower resolutions",
        ),
        (["stages.1.attention.padding=middle"], "takes 'end' or 'centre', not 'middle'"),
    ],
)
def test_what_resolutions_cannot_hold_is_an_error(edits: list[str], sentence: str) -> None:
    with pytest.raises(HexavitError, match=sentence):
        hexavit.create_model("hrt_nano", overrides=edits)


def test_a_pyramid_gets_a_second_resolution() -> None:
    """The parts stand in any stage whose tokens are a raster."""
    block = "(attention, feedforward, resolution_fusion())"
    edits = [
        "stages.1.tokens=add_resolution",
        f"stages.1.block={block}",
        "stages.1.block.resolution_fusion.residual=post_act",
    ]
    edits += ["stages.1.attention.sr_ratio=2", "stages.1.position=none"]
    model = hexavit.create_model("pvt_nano", overrides=edits)
    assert model.stages[1].lower_dims == (2 * model.architecture.stages[1].dim,)
    assert model.stages[2].lower_dims == ()  # the next convolution reads the highest alone
    assert model.eval()(torch.randn(1, 3, 32, 32)).shape == (1, 1000)
    assert Part("resolution_fusion") in [part for _, _, part in model.architecture.places()]
