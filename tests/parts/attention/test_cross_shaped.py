"""Stripes: each branch against attention written out token by token, on maps that the stripes divide and that they do
not."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import hexavit
from hexavit import Architecture, Branch, Part, Stage
from hexavit.parts import Tokens, record_attention
from hexavit.parts.attention import CrossShapedAttention
from hexavit.parts.positions import LocallyEnhanced, RelativeBias

DIM, HEADS, WIDTH = 8, 4, 2


def attention(
    size: tuple[int, int], split: int | None, position: str = "lepe", **options: object
) -> CrossShapedAttention:
    torch.manual_seed(0)
    part = CrossShapedAttention(DIM, heads=HEADS, split=split)
    made = []
    for scope in part.scopes(size):
        if position == "relative":
            made.append(RelativeBias(scope.heads, scope.queries))
        elif position == "lepe":
            made.append(LocallyEnhanced(scope.heads, WIDTH, **options))  # type: ignore[arg-type]
    held = None if not made else made[0] if len(made) == 1 else nn.ModuleList(made)
    setattr(part, "position" if position == "relative" else "value_position", held)
    for p in part.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return part.eval()


def tokens(size: tuple[int, int], extra: int = 0) -> Tokens:
    draw = torch.Generator().manual_seed(1)
    image = torch.randn(2, size[0] * size[1], DIM, generator=draw)
    return Tokens(image, size, extra=torch.randn(2, extra, DIM, generator=draw) if extra else None)


def stripes(size: tuple[int, int], split: int, branch: int) -> Iterator[list[list[tuple[int, int]]]]:
    """The places (row, column) of each stripe, row by row; those outside of the map are padding."""
    along, across = (size[0], size[1]) if branch == 0 else (size[1], size[0])
    count = math.ceil(across / split)
    start = -((count * split - across) // 2)
    for i in range(count):
        band = range(start + i * split, start + (i + 1) * split)
        yield (
            [[(r, c) for c in band] for r in range(along)]
            if branch == 0
            else [[(r, c) for c in range(along)] for r in band]
        )


def branch_alone(
    qkv: Tensor, size: tuple[int, int], split: int, branch: int, position: nn.Module | None, reach: str = "scope"
) -> Tensor:
    """One branch of one image, stripe by stripe and head by head: (H, W, 3, A') to (H, W, A')."""
    out = torch.zeros(*size, qkv.shape[3])
    for places in stripes(size, split, branch):
        flat = [place for row in places for place in row]
        inside = [0 <= r < size[0] and 0 <= c < size[1] for r, c in flat]
        rows = torch.stack(
            [qkv[place] if known else torch.zeros_like(qkv[0, 0]) for place, known in zip(flat, inside, strict=True)]
        )
        for head in range(qkv.shape[3] // WIDTH):
            q, k, v = rows[:, :, head * WIDTH : (head + 1) * WIDTH].unbind(1)
            logits = q @ k.T * WIDTH**-0.5
            if isinstance(position, RelativeBias):
                h, w = len(places), len(places[0])
                for i, j in ((i, j) for i in range(h * w) for j in range(h * w)):
                    row = (i // w - j // w + h - 1) * (2 * w - 1) + i % w - j % w + w - 1
                    logits[i, j] += position.table[row, head]
            mixed = logits.softmax(1) @ v
            for place, known, value in zip(flat, inside, mixed, strict=True):
                if known:
                    out[place][head * WIDTH : (head + 1) * WIDTH] = value
        if isinstance(position, LocallyEnhanced) and reach == "scope":
            image = rows[:, 2].view(len(places), len(places[0]), -1).permute(2, 0, 1)
            near = position.conv(image[None])[0].permute(1, 2, 0).flatten(0, 1)
            for place, known, value in zip(flat, inside, near, strict=True):
                if known:
                    out[place] += value
    if isinstance(position, LocallyEnhanced) and reach == "map":
        out += position.conv(qkv[:, :, 2].permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    return out


def written_out(part: CrossShapedAttention, image: Tensor, size: tuple[int, int], split: int, reach: str) -> Tensor:
    positions = part.value_position or part.position
    found = []
    for x in image:
        qkv = part.qkv(x).unflatten(0, size).unflatten(2, (3, 2, -1))
        halves = [branch_alone(qkv[:, :, :, i], size, split, i, positions and positions[i], reach) for i in range(2)]
        found.append(part.proj(torch.cat(halves, dim=2)).flatten(0, 1))
    return torch.stack(found)


@pytest.mark.parametrize("position", ["none", "lepe", "relative"])
@pytest.mark.parametrize(("size", "split"), [((4, 6), 2), ((3, 5), 1), ((5, 4), 3), ((3, 4), 7), ((2, 2), 2)])
@torch.no_grad()
def test_each_half_of_the_heads_reads_its_stripe(size: tuple[int, int], split: int, position: str) -> None:
    part, given = attention(size, split, position), tokens(size)
    torch.testing.assert_close(part(given).image, written_out(part, given.image, size, split, "scope"))


@torch.no_grad()
def test_a_convolution_of_the_values_may_reach_over_the_map() -> None:
    part, given = attention((5, 4), 3, reach="map"), tokens((5, 4))
    torch.testing.assert_close(part(given).image, written_out(part, given.image, (5, 4), 3, "map"))


@torch.no_grad()
def test_without_a_split_all_heads_read_the_map() -> None:
    """As global attention with the same weights; where both sides are the split, two branches are one."""
    size, given = (3, 3), tokens((3, 3), extra=2)
    whole, halves = attention(size, None), attention(size, 3)
    plain = hexavit.parts.attention.GlobalAttention(DIM, heads=HEADS)
    plain.load_state_dict({k: v for k, v in whole.state_dict().items() if not k.startswith("value")})
    plain.value_position = whole.value_position
    torch.testing.assert_close(whole(Tokens(given.image, size)).image, plain(Tokens(given.image, size)).image)
    state = whole.state_dict()
    for name in ("weight", "bias"):
        for i, part in enumerate(state.pop(f"value_position.conv.{name}").chunk(2)):
            state[f"value_position.{i}.conv.{name}"] = part
    halves.load_state_dict(state)
    torch.testing.assert_close(halves(given).sequence, whole(given).sequence)


@torch.no_grad()
def test_extra_tokens_read_all_and_are_not_read() -> None:
    part, size = attention((4, 5), 2), (4, 5)
    with_them, without = tokens(size, extra=2), tokens(size)
    out = part(with_them)
    torch.testing.assert_close(out.image, part(without).image)
    both = with_them.sequence
    q, k, v = part.qkv(both).unflatten(2, (3, HEADS, WIDTH)).permute(2, 0, 3, 1, 4)
    expected = (q[:, :, :2] @ k.mT * WIDTH**-0.5).softmax(3) @ v
    torch.testing.assert_close(out.extra, part.proj(expected.transpose(1, 2).flatten(2)))


@pytest.mark.parametrize(("size", "split"), [((4, 6), 2), ((3, 5), 2)])
@torch.no_grad()
def test_recorded_maps_are_those_of_all_heads_over_the_padded_map(size: tuple[int, int], split: int) -> None:
    """Rows sum to 1, and a key in no stripe of the query has 0; in the frame of the map with its padding."""
    part, given = attention(size, split, "none"), tokens(size)
    with record_attention(part) as maps:
        out = part(given)
    (found,) = maps[""]
    padded = [math.ceil(n / split) * split for n in size]
    top, left = ((p - n) // 2 for p, n in zip(padded, size, strict=True))
    assert found.shape == (2, HEADS, size[0] * size[1], padded[0] * padded[1])
    torch.testing.assert_close(found.sum(3), torch.ones(2, HEADS, size[0] * size[1]))
    values = part.qkv(given.image).chunk(3, dim=2)[2].unflatten(1, size)
    frame = torch.zeros(2, *padded, DIM)
    frame[:, top : top + size[0], left : left + size[1]] = values
    v = frame.flatten(1, 2).unflatten(2, (HEADS, WIDTH)).transpose(1, 2)
    torch.testing.assert_close(part.proj((found @ v).transpose(1, 2).flatten(2)), out.image)


def test_a_stripe_does_not_read_its_neighbours() -> None:
    """Neither the attention nor the convolution passes the border of a stripe."""
    part, given = attention((4, 4), 2), tokens((4, 4))
    x = given.image.clone().requires_grad_()
    qkv = part.qkv(x).unflatten(1, (4, 4)).unflatten(3, (3, 2, 4))
    part._attended(0, qkv[:, :, :, :, 0], (4, 4)).unflatten(1, (4, 4))[0, 0, 0].sum().backward()
    assert (x.grad.unflatten(1, (4, 4))[0].abs().sum(2) != 0).any(0).tolist() == [True, True, False, False]


def test_scopes_and_errors() -> None:
    part = CrossShapedAttention(8, heads=4, split=2)
    assert [tuple(scope) for scope in part.scopes((5, 6))] == [((5, 2), (5, 2), 2, 3), ((2, 6), (2, 6), 2, 3)]
    assert [tuple(scope) for scope in CrossShapedAttention(8, heads=4, split=None).scopes((5, 6))] == [
        ((5, 6), (5, 6), 4, 1)
    ]
    with pytest.raises(ValueError, match="heads must be even, not 3"):
        CrossShapedAttention(9, heads=3)
    with pytest.raises(ValueError, match="a stripe is at least 1 token wide, not 0"):
        CrossShapedAttention(8, heads=2, split=0)


def test_positions_are_one_a_branch_and_follow_the_size() -> None:
    """A table for each half of the heads, resized with the map; a position on the values beside it."""
    stage = Stage(
        8,
        1,
        Part("conv", kernel=4, stride=4),
        Part("cross_shaped", heads=2, split=2),
        position=Part("relative_bias"),
        block=(Branch("attention", position=Part("lepe")), Branch("feedforward")),
    )
    model = hexavit.create_model(Architecture("mine", (stage,), Part("pool"), img_size=(16, 24), num_classes=3)).eval()
    part = model.stages[0].blocks[0].attention
    assert [tuple(each.table.shape) for each in part.position] == [(7 * 3, 1), (3 * 11, 1)]
    assert [each.conv.in_channels for each in part.value_position] == [4, 4]
    assert {f"stages.0.blocks.0.attention.position.{i}.table" for i in (0, 1)} <= model.no_weight_decay()
    image = torch.randn(1, 3, 24, 32)
    with torch.no_grad():
        called = model(image)
        model.set_input_size((24, 32))
        assert [tuple(each.table.shape) for each in part.position] == [(11 * 3, 1), (3 * 15, 1)]
        torch.testing.assert_close(model(image), called)
