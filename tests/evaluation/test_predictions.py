import numpy as np
import pytest

from hexavit.evaluation.predictions import ClassResult, Confused, Predictions

CLASSES = ("a", "b", "c", "d")


def outputs(truth: list[int], predicted: list[int], confidence: float = 0.9) -> Predictions:
    right, count = np.array(truth) == np.array(predicted), len(truth)
    given = np.full(count, confidence)
    of_truth = np.where(right, given, (1 - confidence) * np.linspace(0.9, 0.1, count))
    return Predictions(np.arange(count), np.array(truth), np.array(predicted), given, of_truth)


def test_figures_of_a_class_by_hand() -> None:
    found = outputs([0, 0, 0, 1, 1, 3], [0, 0, 1, 1, 2, 0]).per_class(CLASSES)
    assert found[0] == ClassResult("a", 3, pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert found[1] == ClassResult("b", 2, 0.5, 0.5, 0.5)
    assert found[2] == ClassResult("d", 1, None, 0.0, 0.0)  # no image was given this class


def test_confusions_come_by_their_number() -> None:
    assert outputs([0, 0, 0, 1, 2, 2], [1, 1, 2, 1, 0, 2]).confused(CLASSES) == (
        Confused("a", "b", 2),
        Confused("a", "c", 1),
        Confused("c", "a", 1),
    )


def test_the_interval_is_that_of_resampling() -> None:
    some = outputs([0] * 200, [0] * 150 + [1] * 50)
    draw = np.random.default_rng(0)
    drawn = [some.right[draw.integers(0, 200, 200)].mean() for _ in range(4000)]
    assert some.interval() == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.011)
    assert some.interval() == some.interval()
    assert some.interval(0.5)[0] > some.interval()[0]
    assert outputs([0], [0]).interval() == (1.0, 1.0)


def test_the_worst_mistake_gave_the_truth_the_least() -> None:
    some = outputs([0, 0, 1, 1, 2], [0, 1, 0, 1, 0])
    assert some.worst(10).tolist() == [4, 2, 1]
    assert some.worst(1).tolist() == [4]
