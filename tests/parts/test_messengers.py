"""Messenger tokens: where they stand, what they read and exchange, against loops over windows and channels."""

import math

import pytest
import torch
from torch import Tensor, nn

import hexavit
from hexavit import Architecture, HexavitError, Part, Stage
from hexavit.parts import Tokens
from hexavit.parts.attention import MessengerWindowAttention
from hexavit.parts.heads import MessengerHead
from hexavit.parts.messengers import exchanged
from hexavit.parts.positions import RelativeBias
from hexavit.parts.residual import MessengerExchange
from hexavit.parts.tokens import MessengerConv, MessengerMerging

pytestmark = pytest.mark.usefixtures("one_thread")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("grid", "region"), [((4, 4), 2), ((4, 8), 4), ((2, 2), 1), ((3, 5), 2), ((2, 3), 4)])
def test_group_k_of_messenger_g_becomes_group_g_of_messenger_k(grid: tuple[int, int], region: int) -> None:
    """Of the other messengers of its region; what would come from a window that is not on the map stays."""
    groups = region**2
    given = drawn(2, grid[0] * grid[1], 3 * groups)
    expected = given.clone()
    for row in range(grid[0]):
        for column in range(grid[1]):
            top, left = row - row % region, column - column % region
            g = (row - top) * region + column - left
            for k in range(groups):
                there = top + k // region, left + k % region
                if there[0] < grid[0] and there[1] < grid[1]:
                    of = given[:, there[0] * grid[1] + there[1], 3 * g : 3 * g + 3]
                    expected[:, row * grid[1] + column, 3 * k : 3 * k + 3] = of
    assert torch.equal(exchanged(given, grid, region), expected)
    assert torch.equal(exchanged(expected, grid, region), given)  # twice is the identity


def test_all_regions_start_with_the_same_messengers() -> None:
    part = MessengerConv(3, 8, 1e-5, kernel=2, stride=2, window=2, region=2)
    out = part(Tokens.of_map(drawn(2, 3, 20, 12)))  # 10 x 6 tokens, 5 x 3 windows
    assert out.size == (10, 6)
    assert out.prefix == part.extra_out(0, out.size) == 15
    for n, (row, column) in enumerate((r, c) for r in range(5) for c in range(3)):
        learned = part.messengers[0, 2 * (row % 2) + column % 2]
        assert torch.equal(out.extra[:, n], learned.expand(2, -1))  # type: ignore[index]  # there are some
    plain = part.norm(part.conv(drawn(2, 3, 20, 12)).permute(0, 2, 3, 1))
    torch.testing.assert_close(out.grid, plain)


@pytest.mark.parametrize("size", [(8, 8), (9, 6), (5, 13)])
def test_one_convolution_merges_map_and_messengers(size: tuple[int, int]) -> None:
    part = MessengerMerging(6, 8, 1e-5, window=3)
    grid = math.ceil(size[0] / 3), math.ceil(size[1] / 3)
    image, messengers = drawn(2, 6, *size), drawn(2, 6, *grid, seed=1)
    out = part(Tokens.of_map(image).with_extra(messengers.flatten(2).mT))
    for found, given in ((out.image, image), (out.extra, messengers)):
        plain = nn.functional.conv2d(given, part.conv.weight, part.conv.bias, stride=2, padding=1)
        torch.testing.assert_close(found, part.norm(plain.flatten(2).mT))
    assert out.prefix == part.extra_out(grid[0] * grid[1], out.size)


@pytest.mark.parametrize("classes", [0, 2])
@pytest.mark.parametrize("size", [(4, 6), (5, 3), (1, 2)])
@torch.no_grad()
def test_a_messenger_reads_its_window_and_is_read_there(size: tuple[int, int], classes: int) -> None:
    torch.manual_seed(0)
    part = MessengerWindowAttention(8, size, heads=2, window=2)
    part.position = RelativeBias(2, (2, 2))
    for parameter in part.parameters():
        nn.init.normal_(parameter, std=0.5)
    down, across = math.ceil(size[0] / 2), math.ceil(size[1] / 2)
    x, extra = drawn(1, size[0] * size[1], 8), drawn(1, classes + down * across, 8, seed=1)
    out = part(Tokens(x, size, extra=extra))
    padded = torch.zeros(2 * down, 2 * across, 8)
    padded[: size[0], : size[1]] = x[0].unflatten(0, size)

    def attend(queries: Tensor, keys: Tensor, bias: Tensor) -> Tensor:
        q = part.qkv(queries)[:, :8].unflatten(1, (2, 4))
        k, v = (part.qkv(keys)[:, 8 * i : 8 * i + 8].unflatten(1, (2, 4)) for i in (1, 2))
        logits = torch.einsum("nhd,mhd->hnm", q, k) / 2 + bias
        return part.proj(torch.einsum("hnm,mhd->nhd", logits.softmax(-1), v).flatten(1))

    for n, (row, column) in enumerate((r, c) for r in range(down) for c in range(across)):
        window = padded[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten(0, 1)
        bias = torch.empty(2, 5, 5)
        bias[:, 1:, 1:] = part.position((2, 2))
        bias[:, 1:, 0] = part.messenger_bias[:, :1]
        bias[:, 0] = part.messenger_bias[:, 1:]
        both = torch.cat((extra[0, classes + n : classes + n + 1], window))
        expected = attend(both, both, bias)
        torch.testing.assert_close(out.extra[0, classes + n], expected[0])
        for k in range(4):
            place = 2 * row + k // 2, 2 * column + k % 2
            if place[0] < size[0] and place[1] < size[1]:
                torch.testing.assert_close(out.grid[0][place], expected[1 + k])
    everything = torch.cat((extra[0], x[0]))
    if classes:
        bias = torch.zeros(2, classes, len(everything))
        torch.testing.assert_close(out.extra[0, :classes], attend(extra[0, :classes], everything, bias))


def test_the_exchange_follows_the_sum_around_the_attention() -> None:
    x = Tokens(drawn(2, 16, 8), (4, 4), extra=drawn(2, 5, 8, seed=1))  # a class token and 2 x 2 windows
    for role in ("attention", "feedforward"):
        part = MessengerExchange(8, 1, 1e-5, 0.0, role, window=2, region=2)
        linear = nn.Linear(8, 8)
        out = part(x, lambda tokens, linear=linear: tokens.each(linear))
        plain = x.sequence + linear(part.norm(x.sequence))
        if role == "attention":
            plain[:, 1:5] = exchanged(plain[:, 1:5], (2, 2), 2)
        torch.testing.assert_close(out.sequence, plain)


def test_the_head_reads_the_mean_of_the_messengers() -> None:
    head = MessengerHead(8, 1e-5, 3)
    tokens = Tokens(drawn(2, 6, 8), (2, 3), extra=drawn(2, 4, 8, seed=1))
    torch.testing.assert_close(head(tokens), head.fc(head.norm(tokens.extra).mean(dim=1)))


CONV = Part("messenger_conv", kernel=4, stride=4, window=2, region=2)
ATTENTION = Part("messenger_window", heads=2, window=2)


def built(*stages: Stage, head: str = "messengers") -> hexavit.Backbone:
    torch.manual_seed(0)
    return hexavit.create_model(Architecture("mine", stages, Part(head), num_classes=3, img_size=(32, 24))).eval()


def test_a_class_token_stands_in_front_of_the_messengers() -> None:
    model = built(Stage(8, 1, CONV, ATTENTION), head="class_token")
    images = drawn(2, 3, 32, 24)
    assert model.num_extra_tokens == 1 + 4 * 3
    entered = model.stages[0].enter(model._enter(images))
    assert torch.equal(entered.extra[:, :1], model.stages[0].class_token.expand(2, -1, -1))
    with torch.no_grad():
        model.head.fc.weight[:] = 0
        torch.testing.assert_close(model(images), model.head.fc.bias.expand(2, -1))
    features = model.forward_features(images)
    torch.testing.assert_close(model.forward_head(features, pre_logits=True), features[:, 0])


def test_messengers_end_where_a_tokens_part_does_not_carry_them() -> None:
    model = built(
        Stage(8, 1, CONV, ATTENTION), Stage(8, 1, Part("patch_merging"), Part("window", heads=2)), head="pool"
    )
    assert [stage.extra for stage in model.stage_modules] == [12, 0]
    assert model.forward_features(drawn(1, 3, 32, 24)).shape == (1, 4 * 3, 8)
    model.set_input_size((64, 24))
    assert [stage.extra for stage in model.stage_modules] == [24, 0]


@pytest.mark.parametrize(
    ("tokens", "attention", "head", "sentence"),
    [
        (
            "conv(kernel=4, stride=4)",
            ATTENTION,
            "pool",
            r"attention=messenger_window.*tokens=conv.* hands none on",
        ),
        ("conv(kernel=4, stride=4)", Part("window", heads=2), "messengers", r"head=messengers works on.*tokens=conv"),
        (
            str(CONV),
            Part("messenger_window", heads=2, window=3),
            "pool",
            r"windows of 3, .* for windows of 2",
        ),
    ],
)
def test_parts_that_miss_their_messengers_raise(tokens: str, attention: Part, head: str, sentence: str) -> None:
    base = Architecture("mine", (Stage(8, 1, CONV, Part("window", heads=2)),), Part(head), img_size=(32, 24))
    with pytest.raises(HexavitError, match=sentence):
        hexavit.create_model(base.override({"stages.0.tokens": tokens, "stages.0.attention": attention}))


def test_groups_that_do_not_divide_the_width_raise() -> None:
    with pytest.raises(HexavitError, match=r"9 groups, which does not divide the width 8: use region=1"):
        built(Stage(8, 1, CONV, ATTENTION, residual=Part("messenger_exchange", window=2, region=3)))


def test_windows_of_8_at_256() -> None:
    """As the authors configure other sizes: one window at the end."""
    edits = [f"stages.*.{part}.window=8" for part in ("tokens", "attention", "residual")]
    model = hexavit.create_model("msg_tiny_p4_win7_224", img_size=256, overrides=[*edits, "stages.*.depth=1"])
    assert [stage.extra for stage in model.stage_modules] == [64, 16, 4, 1]
    assert model.stages[3].blocks[0].attention.position.table.shape == (15**2, 16)
    found = hexavit.checkpoints.inspect_checkpoint(
        hexavit.create_model("msg_nano", img_size=96, overrides=[each.replace("8", "3") for each in edits]).state_dict()
    )
    assert found.model == "msg_nano"
