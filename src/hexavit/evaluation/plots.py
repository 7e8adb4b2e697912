"""Plots of an evaluation: confusion matrix, reliability diagram, worst mistakes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hexavit.data.source import Source
from hexavit.evaluation.multilabel import MultilabelPredictions
from hexavit.evaluation.predictions import BINS, Predictions
from hexavit.images.contact_sheet import Cell, contact_sheet
from hexavit.images.font import drawable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMED, _COUNTED = 40, 20  # most classes with names, and with counts


def draw_confusion(predictions: Predictions, classes: Sequence[str]) -> bytes:
    """Draw the confusion matrix, each row as fractions of its true class; returns a PNG."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no window system

    labels, counts = predictions.confusion()
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    side = min(12.0, 3 + 0.35 * len(labels))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(shown, label="share of the true class")
    axes.set(xlabel="predicted", ylabel="true")
    if len(labels) <= _NAMED:
        names = [_plain(classes[label]) for label in labels]
        axes.set_xticks(range(len(labels)), names, rotation=90)
        axes.set_yticks(range(len(labels)), names)
    if len(labels) <= _COUNTED:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    return _png(figure)


def draw_reliability(predictions: Predictions | MultilabelPredictions) -> bytes:
    """Draw accuracy and number of images by confidence; a calibrated model lies on the diagonal. Returns a PNG."""
    from matplotlib.figure import Figure

    edges = np.linspace(0, 1, BINS + 1)
    place = np.clip(np.digitize(predictions.confidence, edges[1:-1], right=True), 0, BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    right = np.bincount(place, weights=predictions.right, minlength=BINS)
    filled = counts > 0
    figure = Figure(figsize=(5, 5.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.bar(edges[:-1][filled], (right[filled] / counts[filled]), width=1 / BINS, align="edge", edgecolor="white")
    above.plot([0, 1], [0, 1], "--", color="gray")
    above.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    below.bar(edges[:-1], counts, width=1 / BINS, align="edge", edgecolor="white", color="tab:gray")
    below.set(xlabel="confidence", ylabel="images")
    return _png(figure)


def draw_mistakes(predictions: Predictions, classes: Sequence[str], source: Source, count: int = 24) -> bytes | None:
    """Draw the images whose true class got the least probability; returns a PNG, or None without mistakes."""
    cells = []
    for place in predictions.worst(count):
        number = int(predictions.numbers[place])
        truth, predicted = classes[predictions.truth[place]], classes[predictions.predicted[place]]
        lines = (
            f"true: {truth}",
            f"predicted: {predicted} ({predictions.confidence[place]:.0%})",
            Path(source.names[number]).name,
        )
        cells.append(Cell(source.load(number), lines))
    if not cells:
        return None
    file = io.BytesIO()
    contact_sheet(cells, min(6, len(cells))).save(file, format="png")
    return file.getvalue()


def _plain(name: str) -> str:
    """A name that matplotlib draws as text: without missing glyphs, dollar signs (mathematics) escaped."""
    return drawable(name).replace("$", r"\$")


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return file.getvalue()
