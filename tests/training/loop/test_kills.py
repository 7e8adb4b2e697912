import functools
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.killing import kill, whole
from tests.using import digits_folder

SETTINGS = {
    "model": "cvt_nano",
    "epochs": 2,
    "batch_size": 8,
    "img_size": 32,
    "workers": 1,
    "device": "cpu",
    "mixup": 0.2,
    "ema": 0.9,
    "overrides": ["stages.*.drop_path=0.1", "stages.*.depth=1"],
}


Whole = Callable[[float], tuple[Path, list[str]]]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """By the seconds between checkpoints: an uninterrupted run and its moments."""

    @functools.cache
    def train(save_every: float) -> tuple[Path, list[str]]:
        out = tmp_path_factory.mktemp("runs") / "whole"
        return out, whole(settings(save_every), out)

    return train


def settings(save_every: float) -> dict[str, object]:
    return {**SETTINGS, "data": str(digits_folder()), "save_every": save_every}


def places(count: int, seed: int) -> list[float]:
    """Where to kill, as fractions of the moments of a run."""
    drawn = random.Random(seed)
    return [round(drawn.random(), 3) for _ in range(count)]


def survives(reference: Whole, tmp_path: Path, place: float, save_every: float) -> None:
    out, moments = reference(save_every)
    killed = kill(settings(save_every), tmp_path / "run", out, 1 + int(place * len(moments)))
    assert killed.identical, killed
    assert 0 <= killed.lost <= (1 if save_every == 0 else 3), killed
    assert not list((tmp_path / "run").rglob(".*.part"))


@pytest.mark.parametrize("place", [0.134, 0.495, 0.847])
def test_a_killed_run_equals_an_uninterrupted_one(reference: Whole, tmp_path: Path, place: float) -> None:
    survives(reference, tmp_path, place, save_every=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("place", [0.764, 0.255, 0.449, 0.652, 0.789, 0.094, 0.028])
def test_seven_more(reference: Whole, tmp_path: Path, place: float) -> None:
    survives(reference, tmp_path, place, save_every=0.0)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "place"), list(enumerate(places(50, seed=2))))
def test_fifty_more(reference: Whole, tmp_path: Path, number: int, place: float) -> None:
    survives(reference, tmp_path, place, save_every=0.0 if number % 2 else 1e9)
