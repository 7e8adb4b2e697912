"""Differences between cells, paired by seed and test image, with an interval and a verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["better", "worse", "undecided"]
DRAWS = 4000
_LEVEL = 0.95
_Z = 1.96


@dataclass(frozen=True)
class Difference:
    """The difference of two accuracies.

    Attributes:
        mean: over seeds and images; positive if the cell is better than the base.
        low: lower end of the 95 % interval.
        high: upper end.
        seeds: number of seeds.
        more_seeds: estimate of how many more seeds would decide an undecided difference of this size; None if it is
            decided, or if no number of seeds would with these test images.
    """

    mean: float
    low: float
    high: float
    seeds: int
    more_seeds: int | None = None

    @property
    def verdict(self) -> Verdict:
        """`better` or `worse` if the interval does not hold 0. One seed decides nothing: it shows no spread."""
        if self.seeds < 2 or self.low <= 0 <= self.high:
            return "undecided"
        return "better" if self.low > 0 else "worse"

    def within(self, margin: float) -> bool:
        """Whether the whole interval is at most a margin away from 0."""
        return self.seeds > 1 and -margin <= self.low and self.high <= margin

    def in_words(self) -> str:
        """The verdict, and for an undecided one what would decide it."""
        if self.verdict != "undecided":
            return self.verdict
        if self.seeds < 2:
            return "undecided: one seed shows no spread"
        if self.more_seeds is None:
            return "undecided: more seeds alone would not decide it"
        plural = "" if self.more_seeds == 1 else "s"
        return f"undecided: about {self.more_seeds} more seed{plural} would decide it"


def paired(cell: NDArray[np.bool_], base: NDArray[np.bool_], *, draws: int = DRAWS) -> Difference:
    """The difference of two cells, by a hierarchical bootstrap over seeds and, for all seeds alike, test images.

    Seeds and images are crossed: each seed is tested on the same images. A draw takes seeds and images with
    replacement; the interval holds the middle 95 % of the draws' means.

    Args:
        cell: whether each image was predicted right, by seed, (S, N).
        base: the same for the base, with the same seeds and images in the same order.
        draws: number of draws; they are the same at each call.
    """
    differences: NDArray[np.float64] = cell.astype(np.float64) - base.astype(np.float64)
    seeds, images = differences.shape
    random = np.random.default_rng(0)
    # Images with equal differences over the seeds are drawn together, as a multinomial over these patterns.
    patterns, counts = np.unique(differences, axis=1, return_counts=True)  # (S, P), (P,)
    of_images = random.multinomial(images, counts / images, draws) / images  # (B, P)
    of_seeds = random.multinomial(seeds, np.full(seeds, 1 / seeds), draws) / seeds  # (B, S)
    means = ((of_images @ patterns.T) * of_seeds).sum(axis=1)
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    found = Difference(float(differences.mean()), float(low), float(high), seeds)
    if found.verdict != "undecided" or seeds < 2:
        return found
    return Difference(found.mean, found.low, found.high, seeds, _more_seeds(differences))


def _more_seeds(differences: NDArray[np.float64]) -> int | None:
    """How many more seeds bring 1.96 standard errors below the mean difference, if its estimate is the true one.

    The squared standard error with S seeds is a + b / S: b is the variance between the means of seeds, a the variance
    of the images' true differences over their number, which seeds do not change.
    """
    seeds, images = map(int, differences.shape)
    between = float(differences.mean(axis=1).var(ddof=1))
    noise = float(differences.var(axis=0, ddof=1).mean())
    of_images = max(0.0, float(differences.mean(axis=0).var(ddof=1)) - noise / seeds) / images
    allowed = (float(differences.mean()) / _Z) ** 2 - of_images
    if allowed <= 0:
        return None
    return max(1, math.ceil(between / allowed) - seeds)
