"""Paired differences: intervals held against exact ones, and verdicts on constructed outcomes."""

import numpy as np
import pytest

from hexavit.studies.statistics import Difference, paired


def outcomes(rates: list[float], seed: int, images: int = 4000) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.stack([random.random(images) < rate for rate in rates])


def test_equal_outcomes_differ_by_nothing() -> None:
    base = outcomes([0.8, 0.8, 0.8], 0)
    assert paired(base, base) == Difference(0.0, 0.0, 0.0, 3, None)


def test_the_interval_of_images_alone_is_that_of_the_normal_approximation() -> None:
    """With seeds that agree on every image only images vary: mean ± 1.96 sqrt(var / N)."""
    base, cell = outcomes([0.8], 0)[0], outcomes([0.83], 1)[0]
    found = paired(np.stack([cell] * 3), np.stack([base] * 3))
    difference = cell.astype(float) - base
    half = 1.96 * difference.std() / np.sqrt(len(base))
    assert found.mean == pytest.approx(difference.mean(), abs=1e-12)
    assert found.low == pytest.approx(difference.mean() - half, abs=0.001)
    assert found.high == pytest.approx(difference.mean() + half, abs=0.001)


def test_seeds_that_disagree_widen_the_interval() -> None:
    """The means of three seeds are 2, 5 and 8 points: drawing seeds with replacement moves the mean by +- 3."""
    base = np.zeros((3, 1000), dtype=bool)
    cell = np.stack([np.arange(1000) < count for count in (20, 50, 80)])
    found = paired(cell, base)
    assert found.mean == pytest.approx(0.05)
    assert found.low < 0.025
    assert found.high > 0.075


@pytest.mark.parametrize(("rate", "verdict"), [(0.9, "better"), (0.7, "worse"), (0.8, "undecided")])
def test_the_verdict_follows_the_sign_of_the_whole_interval(rate: float, verdict: str) -> None:
    found = paired(outcomes([rate] * 3, 1), outcomes([0.8] * 3, 2))
    assert found.verdict == verdict
    assert (verdict == "undecided") == (found.in_words() != verdict)


def test_one_seed_decides_nothing() -> None:
    found = paired(outcomes([0.9], 1), outcomes([0.8], 2))
    assert found.low > 0
    assert found.in_words() == "undecided: one seed shows no spread"


def test_more_seeds_bring_two_standard_errors_below_the_difference() -> None:
    """Seeds differ by 1, -3 and 8 points on disjoint images, mean 2: b = 31 / 1e4 (in squared points), a = 0."""
    base = np.zeros((3, 100_000), dtype=bool)
    cell = base.copy()
    cell[0, :1000] = True
    base[1, 1000:4000] = True
    cell[2, 4000:12_000] = True
    found = paired(cell, base)
    assert found.mean == pytest.approx(0.02)
    assert found.verdict == "undecided"
    # 1.96 sqrt(0.00310 / S) < 0.02 from S = 30 on, of which three are there.
    assert found.more_seeds == pytest.approx(27, abs=1)


def test_an_interval_within_a_margin_is_no_difference() -> None:
    assert Difference(0.001, -0.004, 0.006, 3).within(0.01)
    assert not Difference(0.001, -0.004, 0.016, 3).within(0.01)
    assert not Difference(0.001, -0.004, 0.006, 1).within(0.01)
