"""The MLP in pieces, as plain inference on the CPU runs it."""

import pytest
import torch
from torch import nn

from hexavit.parts import Tokens, plain
from hexavit.parts.feedforward import MLP


def hidden_rows(part: nn.Module) -> list[int]:
    """How many rows meet the activation, call by call, from now on."""
    seen: list[int] = []
    part.act.register_forward_pre_hook(lambda _, given: seen.append(given[0].flatten(0, -2).shape[0]))
    return seen


@pytest.mark.parametrize("act", ["gelu", "quick_gelu"])
def test_pieces_give_what_the_whole_gives(act: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "PIECE", 64 * 32)
    part, tokens = MLP(8, act=act).eval(), Tokens(torch.randn(3, 50, 8), (10, 5))
    whole, seen = part(tokens).image.detach(), hidden_rows(part)
    with torch.no_grad():
        torch.testing.assert_close(part(tokens).image, whole)
        assert seen == [50, 50, 50]
        part.train()(tokens)
    part.eval()(tokens)
    assert seen[3:] == [150, 150]
