"""Tables and indices that follow from the configuration are right after every way of filling a module."""

from typing import Any

import pytest
import torch
from torch import nn

from hexavit.parts import Tokens
from hexavit.parts.positions import ContinuousBias, RelativeBias, SineCosinePosition

MADE: dict[str, Any] = {
    "relative": lambda: RelativeBias(2, (3, 3)),
    "continuous": lambda: ContinuousBias(2, (3, 3)),
    "sine_cosine": lambda: SineCosinePosition(8, (3, 3), 1),
}


def called(part: nn.Module) -> torch.Tensor:
    if isinstance(part, SineCosinePosition):
        out: torch.Tensor = part(Tokens(torch.zeros(1, 10, 8), (3, 3), prefix=1)).sequence
        return out
    out = part((3, 3), None)
    return out


@pytest.fixture(params=MADE)
def make(request: pytest.FixtureRequest) -> Any:
    return MADE[request.param]


def blank(make: Any) -> nn.Module:
    with torch.device("meta"):
        part: nn.Module = make()
    assert {t.device.type for t in (*part.parameters(), *part.buffers())} == {"meta"}
    return part


def spoiled(part: nn.Module) -> nn.Module:
    """Memory is not always fresh: fill what `to_empty` left with another value than the right one."""
    part.to_empty(device="cpu")
    with torch.no_grad():
        for t in (*part.parameters(), *part.buffers()):
            t.fill_(1)
    return part


def test_to_empty_and_load(make: Any) -> None:
    source = make()
    part = spoiled(blank(make))
    part.load_state_dict(source.state_dict())
    assert torch.equal(called(part), called(source))


def test_load_by_assignment(make: Any) -> None:
    source, part = make(), blank(make)
    part.load_state_dict(source.state_dict(), assign=True)
    assert torch.equal(called(part), called(source))


def test_init_non_persistent_buffers(make: Any) -> None:
    """As timm's modules have it: transformers and accelerate call it."""
    source, part = make(), spoiled(blank(make))
    with torch.no_grad():
        for p, q in zip(part.parameters(), source.parameters(), strict=True):
            p.copy_(q)
    part.init_non_persistent_buffers()  # type: ignore[operator]
    assert torch.equal(called(part), called(source))


def test_indices_and_offsets_are_exact_after_half_precision() -> None:
    source = ContinuousBias(2, (3, 3))
    state = {name: value.clone() for name, value in source.state_dict().items()}
    before = called(source)
    source.bfloat16().float().load_state_dict(state)
    assert torch.equal(called(source), before)
    assert called(source.double()).dtype == torch.float64
