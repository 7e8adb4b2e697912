"""The bias that a position keeps in evaluation: only what a later call may use, and made of the weights as they are."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.nn.utils import parametrize, prune

from hexavit.parts.positions import ContinuousBias, RelativeBias
from hexavit.parts.positions.relative import LogitPosition

SCOPE = (3, 3)


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


@pytest.fixture(params=[RelativeBias, ContinuousBias])
def position(request: pytest.FixtureRequest) -> LogitPosition:
    torch.manual_seed(0)
    part: LogitPosition = request.param(2, SCOPE)
    for p in part.parameters():
        nn.init.normal_(p)
    return part.eval()


@pytest.mark.parametrize(
    "watched", [lambda: torch.autocast("cpu", torch.bfloat16), lambda: FakeTensorMode(allow_non_fake_inputs=True)]
)
def test_what_somebody_watched_is_not_kept(
    position: LogitPosition, watched: Callable[[], AbstractContextManager[object]]
) -> None:
    with torch.no_grad():
        with watched():
            position(SCOPE)
        assert torch.equal(position(SCOPE), position.bias(SCOPE))
        with watched():
            position(SCOPE)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
def test_tangents_of_the_weights_reach_a_bias_that_was_kept(position: LogitPosition) -> None:
    with torch.no_grad():
        position(SCOPE)
        given = {name: p.detach() for name, p in position.named_parameters()}
        with forward_ad.dual_level():
            dual = {name: forward_ad.make_dual(p, torch.ones_like(p)) for name, p in given.items()}
            found = torch.func.functional_call(position, dual, (SCOPE,))
            assert forward_ad.unpack_dual(found).tangent is not None


def test_positions_side_by_side(position: LogitPosition) -> None:
    """As `torch.func` runs several models at once."""
    position_twice = {name: torch.stack([p.detach(), 2 * p.detach()]) for name, p in position.named_parameters()}
    with torch.no_grad():
        first = position(SCOPE)
        found = torch.func.vmap(lambda p: torch.func.functional_call(position, p, (SCOPE,)))(position_twice)
        torch.testing.assert_close(found[0], first)
        assert not torch.equal(found[0], found[1])


@pytest.mark.parametrize("change", ["parametrized", "pruned"])
def test_weights_that_are_computed_from_others(position: LogitPosition, change: str) -> None:
    holder, name = (position, "table") if isinstance(position, RelativeBias) else (position.fc2, "weight")
    with torch.no_grad():
        before = position(SCOPE).clone()
        if change == "parametrized":
            parametrize.register_parametrization(holder, name, Twice())
        else:
            prune.random_unstructured(holder, name, amount=0.5)
        assert torch.equal(position(SCOPE), position.bias(SCOPE))
        assert not torch.equal(position(SCOPE), before)


def test_what_follows_of_the_scope_survives_a_move(position: LogitPosition) -> None:
    """Offsets are not rounded for ever by a passage through bfloat16, nor left empty by `to_empty`."""
    state = {name: value.clone() for name, value in position.state_dict().items()}
    before = position.bias(SCOPE)
    position.bfloat16().float().load_state_dict(state)
    assert torch.equal(position.bias(SCOPE), before)
    with torch.device("meta"):
        blank = type(position)(2, SCOPE)
        assert {t.device.type for t in (*blank.parameters(), *blank.buffers())} == {"meta"}
    blank.to_empty(device="cpu").load_state_dict(state)
    assert torch.equal(blank.bias(SCOPE), before)
    assert position.double().bias(SCOPE).dtype == torch.float64
