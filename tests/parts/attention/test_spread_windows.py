"""The windows of Shuffle Transformer and Glance-and-Gaze, against the rules of their papers written as loops."""

import math

import pytest
import torch

import hexavit
from hexavit import Part
from hexavit.parts import Tokens
from hexavit.parts.attention import WindowAttention
from hexavit.parts.attention.partition import cut_windows, join_windows
from hexavit.parts.positions import LocallyEnhanced, RelativeBias

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = [(56, 56), (28, 28), (14, 14), (7, 7), (56, 28), (14, 35)]


def partition(size: tuple[int, int]) -> torch.Tensor:
    """The number of the token at each place of each window of 7 x 7: (windows, 49)."""
    numbers = torch.arange(size[0] * size[1]).view(1, *size, 1)
    return cut_windows(numbers, (size[0] // 7, size[1] // 7), (7, 7), spread=True)[..., 0]


@pytest.mark.parametrize("size", SIZES)
def test_the_partition_of_the_glance(size: tuple[int, int]) -> None:
    """With dilations d = H / M and e = W / M partition (a, b) holds rows a + d r and columns b + e c."""
    h, w = size
    d, e = h // 7, w // 7
    expected = [[(a + d * r) * w + b + e * c for r in range(7) for c in range(7)] for a in range(d) for b in range(e)]
    assert partition(size).tolist() == expected
    tokens = torch.randn(1, h, w, 3)
    windows = cut_windows(tokens, (d, e), (7, 7), spread=True)
    assert torch.equal(join_windows(windows, 1, (d, e), (7, 7), spread=True), tokens)


@pytest.mark.parametrize("size", SIZES)
def test_it_is_the_shuffled_window(size: tuple[int, int]) -> None:
    """Shuffle Transformer: the token at (r, c) of window (i, j) is at row r (H / M) + i and column c (W / M) + j."""
    counts = size[0] // 7, size[1] // 7
    for number, window in enumerate(partition(size).tolist()):
        i, j = divmod(number, counts[1])
        for k, token in enumerate(window):
            r, c = divmod(k, 7)
            assert divmod(token, size[1]) == (r * counts[0] + i, c * counts[1] + j)


def test_a_glance_without_its_gaze_is_shuffled_attention() -> None:
    """The parts that the two models build, with equal weights."""
    torch.manual_seed(0)
    # 28 x 28 tokens in the first stage: windows of 7 x 7, 4 apart.
    kept = {"img_size": 112, "num_classes": 3, "overrides": [f"stages.{i}.depth=0" for i in (1, 2, 3)]}
    shuffle = hexavit.create_model("shuffle_tiny", **kept).stages[0].blocks[1].attention
    glance = hexavit.create_model("gg_t", **kept).stages[0].blocks[0].attention
    tokens = Tokens(torch.randn(2, 28 * 28, 96), (28, 28))
    with torch.no_grad():
        shuffle.load_state_dict({k: v for k, v in glance.state_dict().items() if k in shuffle.state_dict()})
        glance.qkv.bias.zero_()  # which Shuffle does not have
        gazed = glance(tokens).image
        values = glance.qkv(tokens.image)[..., 192:]
        gaze = glance.value_position.conv(values.unflatten(1, (28, 28)).permute(0, 3, 1, 2)).flatten(2).mT
        torch.testing.assert_close(gazed, shuffle(tokens).image + gaze @ glance.proj.weight.t())


@pytest.mark.parametrize("size", [(6, 9), (5, 7), (8, 3), (2, 7)])
@torch.no_grad()
def test_other_maps_are_padded_and_then_spread(size: tuple[int, int]) -> None:
    """Zeros at the bottom and at the right up to multiples of the window; distances are those of the padded map. A
    window is no larger than the shorter side of the map. The gaze reads the map without the padding."""
    torch.manual_seed(0)
    part = WindowAttention(8, size, heads=2, window=3, spread=True)
    side = min(3, *size)
    part.position, part.value_position = RelativeBias(2, (side, side)), LocallyEnhanced(2, 4, reach="map", bias=False)
    for parameter in part.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = torch.randn(1, size[0] * size[1], 8)
    down, across = math.ceil(size[0] / side), math.ceil(size[1] / side)
    padded = torch.zeros(down * side, across * side, 8)
    padded[: size[0], : size[1]] = x[0].unflatten(0, size)
    q, k, v = part.qkv(padded).unflatten(2, (3, 2, 4)).unbind(2)
    expected = torch.zeros(down * side, across * side, 8)
    for a in range(down):
        for b in range(across):
            places = [(a + down * r, b + across * c) for r in range(side) for c in range(side)]
            qs, ks, vs = (torch.stack([t[place] for place in places]) for t in (q, k, v))
            logits = torch.einsum("nhd,mhd->hnm", qs, ks) / 2 + part.position((side, side))
            mixed = torch.einsum("hnm,mhd->nhd", logits.softmax(-1), vs).flatten(1)
            for place, found in zip(places, mixed, strict=True):
                expected[place] = found
    values = v[: size[0], : size[1]].flatten(2).permute(2, 0, 1)[None]
    gaze = torch.nn.functional.conv2d(values, part.value_position.conv.weight, padding=1, groups=8)[0].permute(1, 2, 0)
    plain = part.proj(expected[: size[0], : size[1]] + gaze).flatten(0, 1)
    torch.testing.assert_close(part(Tokens(x, size)).image[0], plain)


def parameters(name: str, *overrides: str) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in hexavit.create_model(name, overrides=overrides).parameters())


def test_parameters_of_glance_and_gaze_are_swins_and_the_convolutions() -> None:
    """The paper's table has 28 M and 50 M."""
    for name, size, deep, table in (("gg_t", "tiny", 6, 28), ("gg_s", "small", 18, 50)):
        gaze = 2 * 96 * 9**2 + 2 * 192 * 5**2 + deep * 384 * 3**2 + 2 * 768 * 3**2
        counted = parameters(name)
        assert counted == parameters(f"swin_{size}_patch4_window7_224") + gaze
        assert round(counted / 1e6) == table


def test_shuffle_without_its_neighbour_window_connection() -> None:
    """The paper's ablation: the convolution and its norm are left out, everything else stays."""
    left_out = sum(n * 96 * 2**i * (7**2 + 1 + 2) for i, n in enumerate((2, 2, 6, 2)))
    without = parameters("shuffle_tiny", "stages.*.block=(attention, feedforward)")
    assert without == parameters("shuffle_tiny") - left_out


def test_glance_and_gaze_in_deit() -> None:
    """The paper's GG-DeiT: 14 x 14 tokens in windows of 7 x 7 that are 2 apart, and a mean for the class token."""
    part = str(Part("window", window=7, spread=True, heads=3))
    edits = [f"stages.0.attention={part}", "stages.0.block.attention.position=lepe(kernel=3, reach=map)", "head=pool"]
    model = hexavit.create_model("deit_tiny_patch16_224", overrides=[*edits, "stages.0.depth=1"])
    assert model(torch.randn(1, 3, 224, 224)).shape == (1, 1000)
