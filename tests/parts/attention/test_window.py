"""Windows: two ways through one shifted map, against attention written out token by token."""

import copy
import math

import pytest
import torch
from torch import Tensor

from hexavit.parts import Tokens, record_attention
from hexavit.parts.attention import WindowAttention
from hexavit.parts.attention.window import shift_mask
from hexavit.parts.positions import ContinuousBias, LocallyEnhanced, RelativeBias


def attention(size: tuple[int, int], position: str = "relative", **options: object) -> WindowAttention:
    torch.manual_seed(0)
    part = WindowAttention(8, size, heads=2, **options)  # type: ignore[arg-type]
    made = {"relative": RelativeBias, "continuous": ContinuousBias}
    part.position = made[position](2, part.scope(size)) if position in made else None
    for p in part.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return part.eval()


def tokens(size: tuple[int, int], extra: int = 0) -> Tokens:
    draw = torch.Generator().manual_seed(1)
    image = torch.randn(2, size[0] * size[1], 8, generator=draw)
    return Tokens(image, size, extra=torch.randn(2, extra, 8, generator=draw) if extra else None)


def written_out(part: WindowAttention, x: Tensor, size: tuple[int, int], side: int, shift: int) -> Tensor:
    """Every token asks those that share its window of the rolled, padded map, and its region of the plain one."""
    rows, columns = (math.ceil(n / side) * side for n in size)
    padded = torch.zeros(x.shape[0], rows, columns, 8)
    padded[:, : size[0], : size[1]] = x.unflatten(1, size)
    q, k, v = part.qkv(padded.flatten(1, 2)).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
    places = [((r - shift) % rows, (c - shift) % columns) for r in range(rows) for c in range(columns)]
    logits = q @ k.transpose(-2, -1) * part.scale
    bias = torch.zeros(2, len(places), len(places))
    for i, (r, c) in enumerate(places):
        for j, (s, d) in enumerate(places):
            if (r // side, c // side) != (s // side, d // side):
                bias[:, i, j] = -torch.inf
                continue
            offset = (r - s + side - 1) * (2 * side - 1) + c - d + side - 1
            bias[:, i, j] = part.position.table[offset]  # type: ignore[union-attr,index]  # a RelativeBias
            apart = [(a >= n - shift) != (b >= n - shift) for a, b, n in ((r, s, rows), (c, d, columns))]
            bias[:, i, j] -= 100.0 * any(apart)
    out = part.proj(((logits + bias).softmax(-1) @ v).transpose(1, 2).flatten(2))
    return out.unflatten(1, (rows, columns))[:, : size[0], : size[1]].flatten(1, 2)


@pytest.mark.parametrize("size", [(6, 6), (7, 5), (4, 9)])
@pytest.mark.parametrize("shifted", [False, True])
@torch.no_grad()
def test_each_token_reads_its_window(size: tuple[int, int], shifted: bool) -> None:
    part, given = attention(size, window=3, shifted=shifted), tokens(size)
    reference = written_out(part, given.image, size, 3, 1 if shifted else 0)
    torch.testing.assert_close(part(given).image, reference)
    with record_attention(part) as maps:
        torch.testing.assert_close(part(given).image, reference)
    assert maps[""][0].shape[0] == 2 * math.ceil(size[0] / 3) * math.ceil(size[1] / 3)


@pytest.mark.parametrize("cosine", [False, True])
def test_both_ways_have_the_same_gradients(cosine: bool) -> None:
    part = attention((7, 6), "continuous", window=3, shifted=True, cosine=cosine).double()
    plain, found = tokens((7, 6), extra=2), []
    given = Tokens(plain.image.double(), (7, 6), extra=plain.sequence[:, :2].double())
    for record in (False, True):
        part.zero_grad()
        part.maps = [] if record else None
        part(given).sequence.square().sum().backward()
        found.append([p.grad.clone() for p in part.parameters() if p.grad is not None])
    assert len(found[0]) == len(list(part.parameters()))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_a_window_shrinks_to_a_small_map_and_is_not_shifted() -> None:
    part = WindowAttention(8, (5, 9), heads=2, window=7, shifted=True)
    assert part.scope((5, 9)) == (5, 5)
    assert part.scope((8, 9)) == part.scope((14, 14)) == (7, 7)
    assert part._window((7, 9)) == ((7, 7), (0, 0))
    assert part._window((8, 9)) == ((7, 7), (3, 3))
    kept = WindowAttention(8, (5, 9), heads=2, window=7, shrink=False)
    assert kept.scope((5, 9)) == (7, 7)
    with pytest.raises(ValueError, match="a window is at least 1 token wide, not 0"):
        WindowAttention(8, (5, 9), heads=2, window=0)


def test_the_mask_of_the_paper() -> None:
    """Four windows of 2 x 2 with a shift of 1: the first has no strangers, the last four."""
    mask = shift_mask((2, 2), (2, 2), (1, 1), torch.zeros(1))
    assert (mask != 0).sum(dim=(1, 2)).tolist() == [0, 8, 8, 12]
    assert set(mask.unique().tolist()) == {-100.0, 0.0}


@torch.no_grad()
def test_half_precision_and_autocast() -> None:
    part, given = attention((6, 6), window=3, shifted=True), tokens((6, 6))
    reference = part(given).image
    with torch.autocast("cpu", torch.bfloat16):
        found = part(given).image
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), reference, rtol=0.1, atol=0.1)
    half = part.to(torch.bfloat16)(Tokens(given.image.to(torch.bfloat16), (6, 6))).image
    torch.testing.assert_close(half.float(), reference, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_tokens_of_zeros_have_directions_in_half_precision_too(dtype: torch.dtype) -> None:
    """Padding is zeros, and cosine attention's keys have no bias: 1e12, by which they are scaled, is no float16."""
    part = attention((5, 7), "none", window=3, shifted=True, cosine=True, key_bias=False)
    torch.nn.init.zeros_(part.q_bias)  # as it starts
    expected = part(tokens((5, 7))).image.detach()
    halved, given = copy.deepcopy(part).to(dtype), tokens((5, 7)).each(lambda x: x.to(dtype))
    with torch.no_grad():
        for found in (halved(given).image, halved.train()(given).image):
            assert found.dtype == dtype
            torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.1 * expected.abs().max().item())


def test_layers_are_called_as_modules() -> None:
    """Adapters wrap `qkv`: what they add must count."""
    for options in ({}, {"cosine": True, "key_bias": False}):
        part = attention((6, 6), window=3, **options)
        before = part(tokens((6, 6))).image
        part.qkv.register_forward_hook(lambda module, given, out: 2 * out)
        assert not torch.allclose(part(tokens((6, 6))).image, before)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("size", [(6, 6), (12, 9), (3, 5)])
def test_a_script_has_the_windows_of_the_size_it_was_traced_at(size: tuple[int, int]) -> None:
    """Not those of the size that the part was built for: here (6, 6)."""
    part = attention((6, 6), window=4, shifted=True)

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = part

        def forward(self, grid: Tensor) -> Tensor:
            return self.part(Tokens.of_grid(grid)).image  # type: ignore[no-any-return]

    grid = tokens(size).grid
    with torch.no_grad():
        script = torch.jit.trace(Whole(), grid, check_trace=False)  # type: ignore[no-untyped-call]
        torch.testing.assert_close(script(grid), part(Tokens.of_grid(grid)).image)


@pytest.mark.parametrize("length", [1e-3, 1.0, 1000.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_cosine_attention_does_not_depend_on_lengths_under_autocast(dtype: torch.dtype, length: float) -> None:
    """The square of 256 is infinite in float16, and padding makes keys of zero."""
    part = attention((5, 7), "none", window=3, shifted=True, cosine=True, key_bias=False)
    torch.nn.init.zeros_(part.q_bias)
    expected = part(tokens((5, 7))).image
    part.qkv.weight[:16] *= length  # queries and keys
    with torch.autocast("cpu", dtype):
        found = part(tokens((5, 7))).image
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.05 * expected.abs().max().item())


@pytest.mark.parametrize(("stored", "scale"), [(math.log(10), 10.0), (4.0, 54.598150), (7.0, 100.0)])
@torch.no_grad()
def test_cosine_attention_scales_by_at_most_100(stored: float, scale: float) -> None:
    """Swin V2, section 3.2: the temperature is not below 0.01."""
    part, given = attention((3, 3), "none", window=3, cosine=True), tokens((3, 3))
    assert part.logit_scale is not None
    part.logit_scale.fill_(stored)
    q, k, _ = part.qkv(given.image).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)  # (B, h, N, d) each
    lengths = q.norm(dim=3)[..., None] * k.norm(dim=3)[:, :, None]
    with record_attention(part) as maps:
        part(given)
    torch.testing.assert_close(maps[""][0], (scale * (q @ k.mT) / lengths).softmax(dim=3), rtol=1e-3, atol=1e-5)


def windows_of(size: tuple[int, int], window: tuple[int, int], spread: bool) -> list[list[tuple[int, int]]]:
    """The places (row, column) of each window of the padded map, row by row."""
    (h, w), (down, across) = window, (math.ceil(n / side) for n, side in zip(size, window, strict=True))
    found = []
    for i in range(down):
        for j in range(across):
            rows = [i + down * r if spread else i * h + r for r in range(h)]
            columns = [j + across * c if spread else j * w + c for c in range(w)]
            found.append([(r, c) for r in rows for c in columns])
    return found


@pytest.mark.parametrize("reach", ["scope", "map"])
@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize(
    ("size", "window", "shape"),
    [
        ((6, 8), 2, (2, 2)),
        ((6, 8), (3, 2), (3, 2)),
        ((5, 7), (2, 3), (2, 3)),
        ((5, 6), (None, 2), (5, 2)),
        ((5, 6), (2, None), (2, 6)),
        ((3, 7), (4, 2), (3, 2)),
    ],
)
@torch.no_grad()
def test_windows_of_any_shape_of_neighbours_or_spread(
    size: tuple[int, int], window: object, shape: tuple[int, int], spread: bool, reach: str
) -> None:
    """Token by token, with a bias by offset inside the window and a convolution of the values of it, or of the map."""
    part, given = attention(size, window=window, spread=spread), tokens(size)
    assert part.scope(size) == shape
    part.value_position = LocallyEnhanced(2, 4, reach=reach)  # type: ignore[arg-type]
    torch.nn.init.normal_(part.value_position.conv.weight)
    padded = [math.ceil(n / side) * side for n, side in zip(size, shape, strict=True)]
    grid = torch.zeros(2, *padded, 8)
    grid[:, : size[0], : size[1]] = given.grid
    q, k, v = part.qkv(grid).chunk(3, dim=3)
    mixed = torch.zeros(2, *padded, 8)
    for places in windows_of(size, shape, spread):
        rows, columns = (torch.tensor(each) for each in zip(*places, strict=True))
        here = [t[:, rows, columns].unflatten(2, (2, 4)).transpose(1, 2) for t in (q, k, v)]
        bias = torch.empty(2, len(places), len(places))
        for i in range(len(places)):
            for j in range(len(places)):
                r, c = i // shape[1] - j // shape[1], i % shape[1] - j % shape[1]
                bias[:, i, j] = part.position.table[(r + shape[0] - 1) * (2 * shape[1] - 1) + c + shape[1] - 1]  # type: ignore[union-attr,index]
        attended = (here[0] @ here[1].mT * part.scale + bias).softmax(3) @ here[2]
        mixed[:, rows, columns] = attended.transpose(1, 2).flatten(2)
        if reach == "scope":
            values = v[:, rows, columns].unflatten(1, shape).permute(0, 3, 1, 2)
            mixed[:, rows, columns] += part.value_position.conv(values).flatten(2).mT
    if reach == "map":
        values = v[:, : size[0], : size[1]].permute(0, 3, 1, 2)
        mixed[:, : size[0], : size[1]] += part.value_position.conv(values).permute(0, 2, 3, 1)
    expected = part.proj(mixed)[:, : size[0], : size[1]].flatten(1, 2)
    torch.testing.assert_close(part(given).image, expected)


@torch.no_grad()
def test_windows_of_two_sides_shift_along_the_sides_that_do_not_cover_the_map() -> None:
    """A square given as a list shifts as a square; a stripe as high as the map is shifted along the other side."""
    given = tokens((6, 6))
    one, other = (attention((6, 6), window=window, shifted=True) for window in (3, (3, 3)))
    torch.testing.assert_close(one(given).image, other(given).image)
    part = WindowAttention(8, (5, 6), heads=2, window=(None, 2), shifted=True)
    assert part._window((5, 6)) == ((5, 2), (0, 1))
    rolled, plain = (
        attention((5, 6), "none", window=(None, 2), shifted=True),
        attention((5, 6), "none", window=(None, 2)),
    )
    inner = plain(Tokens(tokens((5, 6)).grid.roll(-1, 2).flatten(1, 2), (5, 6))).grid.roll(1, 2)
    found = rolled(tokens((5, 6))).grid
    torch.testing.assert_close(found[:, :, 1:5], inner[:, :, 1:5])  # the first and the last column were no neighbours
    assert not torch.allclose(found, inner)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"window": (2,)}, "a side, or a list of a height and a width"),
        ({"window": (2, 2, 2)}, "a side, or a list of a height and a width"),
        ({"window": (0, None)}, "at least 1 token wide"),
        ({"window": 2, "shifted": True, "spread": True}, "shifted or spread, not both"),
    ],
)
def test_a_wrong_window_raises(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        WindowAttention(8, (6, 6), heads=2, **options)  # type: ignore[arg-type]
