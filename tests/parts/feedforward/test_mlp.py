"""The MLP in pieces, as plain inference on the CPU runs it."""

import pytest
import torch

from hexavit.parts import Tokens
from hexavit.parts.feedforward import MLP, mlp


@pytest.mark.parametrize("act", ["gelu", "quick_gelu"])
def test_pieces_give_what_the_whole_gives(act: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlp, "PIECE", 64 * 32)
    part, tokens = MLP(8, act=act).eval(), Tokens(torch.randn(3, 50, 8), (10, 5))
    whole = part(tokens).image.detach()
    with torch.no_grad():
        assert part._in_pieces()
        torch.testing.assert_close(part(tokens).image, whole)
        assert not part.train()._in_pieces()
