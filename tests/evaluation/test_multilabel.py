"""Metrics of images with several classes, against scikit-learn and a search over all thresholds."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, log_loss

from hexavit.evaluation.multilabel import MultilabelMetrics, MultilabelPredictions, best_thresholds

GENERATOR = np.random.default_rng(0)
TRUTHS = GENERATOR.random((80, 4)) < np.array([0.5, 0.1, 0.3, 0.0])  # no image has the last class
LOGITS = GENERATOR.normal(size=(80, 4)) + 2 * TRUTHS - 1
PROBABILITIES = 1 / (1 + np.exp(-LOGITS))
NAMES = ["a", "b", "c", "d"]


def predictions(thresholds: list[float]) -> MultilabelPredictions:
    return MultilabelPredictions(np.arange(80), TRUTHS, PROBABILITIES, np.array(thresholds))


def test_metrics_are_those_of_scikit_learn() -> None:
    thresholds = [0.5, 0.3, 0.7, 0.2]
    predicted = thresholds <= PROBABILITIES
    found = predictions(thresholds).values(NAMES)
    assert found["accuracy"] == pytest.approx(accuracy_score(TRUTHS, predicted))  # every class right
    occurring = (TRUTHS[:, :3], predicted[:, :3], PROBABILITIES[:, :3])
    assert found["macro_f1"] == pytest.approx(f1_score(occurring[0], occurring[1], average="macro"))
    assert found["micro_f1"] == pytest.approx(f1_score(TRUTHS, predicted, average="micro"))
    assert found["mean_average_precision"] == pytest.approx(average_precision_score(occurring[0], occurring[2]))
    assert found["loss"] == pytest.approx(log_loss(TRUTHS.ravel(), PROBABILITIES.ravel()))
    assert [each.name for each in found["per_class"]] == NAMES[:3]
    assert [each.threshold for each in found["per_class"]] == thresholds[:3]
    assert [each.count for each in found["per_class"]] == TRUTHS[:, :3].sum(0).tolist()
    low, high = found["interval"]
    assert low <= found["accuracy"] <= high


def test_a_class_that_is_never_predicted_has_no_precision() -> None:
    first = predictions([1.1, 0.5, 0.5, 0.5]).per_class(NAMES)[0]
    assert (first.precision, first.recall, first.f1) == (None, 0, 0)


def test_the_metric_collects_batches_and_starts_anew() -> None:
    metric = MultilabelMetrics()
    for _ in range(2):
        metric.reset()
        for part in (slice(0, 50), slice(50, 80)):
            metric.update(torch.tensor(LOGITS[part]), torch.tensor(TRUTHS[part]).float())
        found = metric.compute()
    assert float(found["map"]) == pytest.approx(average_precision_score(TRUTHS[:, :3], PROBABILITIES[:, :3]), abs=1e-6)
    assert float(found["f1"]) == pytest.approx(f1_score(TRUTHS[:, :3], PROBABILITIES[:, :3] >= 0.5, average="macro"))
    assert float(found["accuracy"]) == pytest.approx(accuracy_score(TRUTHS, PROBABILITIES >= 0.5))


def test_thresholds_give_the_best_f1_of_each_class() -> None:
    found = best_thresholds(torch.tensor(PROBABILITIES), torch.tensor(TRUTHS))
    assert found[3] == 0.5  # no image has the class, so nothing is known
    for label in range(3):
        truth, probability = TRUTHS[:, label], PROBABILITIES[:, label]
        best = max(f1_score(truth, probability >= each) for each in probability)
        assert f1_score(truth, probability >= found[label]) == pytest.approx(best)
        assert np.abs(probability - found[label]).min() > 1e-6  # between two probabilities, so rounding decides nothing
