import random

import numpy as np
import torch

from hexavit.data.seeding import derive, seeded


def draw() -> tuple[float, float, float]:
    return random.random(), np.random.rand(), float(torch.rand(()))


def test_a_draw_is_a_function_of_its_purpose() -> None:
    drawn = []
    for purpose in [("sample", 0, 1), ("sample", 0, 1), ("sample", 1, 0)]:
        with seeded(3, *purpose):
            drawn.append(draw())
    assert drawn[0] == drawn[1]
    assert all(a != b for a, b in zip(drawn[0], drawn[2], strict=True))


def test_the_generators_are_put_back() -> None:
    with seeded(0, "outer"):
        undisturbed = draw(), draw()
    with seeded(0, "outer"):
        first = draw()
        with seeded(1, "inner"):
            draw()
        assert (first, draw()) == undisturbed


def test_seeds_are_the_same_on_every_machine() -> None:
    assert derive(0, "sample", 2, 5) == 7907727481609947249
