"""The convolutional feedforward in bands, as plain inference on the CPU runs it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from hexavit.parts import Tokens, plain
from hexavit.parts.feedforward import ConvMLP

CASES = {
    "plain": {"norm": False, "first_act": None},
    "norm": {},
    "wide": {"kernel": 5, "act": "hardswish"},
    "excite": {"excite": "se"},
}


@pytest.mark.parametrize("piece", [32 * 5 * 4, 32 * 20 * 11 * 2], ids=["rows", "images"])
@pytest.mark.parametrize("case", CASES)
def test_bands_give_what_the_whole_gives(case: str, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = CASES[case]
    part, tokens = ConvMLP(8, **options), Tokens(torch.randn(3, 220, 8), (20, 11))
    part(tokens)  # batch norms that have seen something
    part.eval()
    whole = part(tokens).image.detach()
    heights, transform = [], part._transform

    def seeing(grid: Tensor) -> Tensor:
        heights.append(tuple(grid.shape[:2]))
        return transform(grid)

    monkeypatch.setattr(part, "_transform", seeing)  # not by a hook: what has one is given all at once
    monkeypatch.setattr(plain, "PIECE", piece)
    with torch.no_grad():
        torch.testing.assert_close(part(tokens).image, whole)
    rows = {"wide": [12, 12], "plain": [8, 9, 7], "norm": [8, 9, 7], "excite": [20]}[case]
    assert heights == ([(2, 20), (1, 20)] if piece > 32 * 220 else [(1, n) for n in rows * 3])


def test_a_band_is_never_narrower_than_its_borders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "PIECE", 1)
    part, tokens = ConvMLP(8, norm=False, kernel=3).eval(), Tokens(torch.randn(1, 220, 8), (20, 11))
    with torch.no_grad():
        banded = part(tokens).image
    torch.testing.assert_close(banded, part(tokens).image.detach())


def test_a_hooked_layer_is_given_the_whole_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "PIECE", 1)
    part, tokens = ConvMLP(8, norm=False).eval(), Tokens(torch.randn(2, 220, 8), (20, 11))
    seen: list[torch.Size] = []
    part.conv.register_forward_hook(lambda _, given, out: seen.append(out.shape))
    with torch.no_grad():
        part(tokens)
    assert seen == [(2, 32, 20, 11)]
