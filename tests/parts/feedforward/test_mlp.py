"""The MLP in pieces, as plain inference on the CPU runs it."""

import pytest
import torch
from torch import Tensor, nn

from hexavit.parts import Tokens, plain
from hexavit.parts.feedforward import MLP


def hidden_rows(part: MLP) -> list[int]:
    """How many rows are transformed, call by call, from now on. Not by a hook: what has one is given all at once."""
    seen, transform = [], part._transform

    def seeing(x: Tensor) -> Tensor:
        seen.append(x.flatten(0, -2).shape[0])
        return transform(x)

    part._transform = seeing  # type: ignore[method-assign]
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


def test_a_hooked_layer_is_given_all_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "PIECE", 64 * 32)
    part, tokens = MLP(8).eval(), Tokens(torch.randn(3, 50, 8), (10, 5))
    seen: list[torch.Size] = []
    part.fc1.register_forward_hook(lambda _, given, out: seen.append(out.shape))
    with torch.no_grad():
        part(tokens)
    assert seen == [(3, 50, 32)]


def test_layers_may_be_replaced_by_any_module() -> None:
    part, tokens = MLP(8).eval(), Tokens(torch.randn(3, 50, 8), (10, 5))
    whole = part(tokens).image.detach()
    part.fc1, part.fc2 = nn.Sequential(part.fc1), nn.Sequential(part.fc2)  # type: ignore[assignment]
    with torch.no_grad():
        torch.testing.assert_close(part(tokens).image, whole)
