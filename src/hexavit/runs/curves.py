"""Learning curves as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hexavit.errors import RunError
from hexavit.files import replacing

_NAMED = 20  # largest number of runs with a legend


def draw_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw loss and validation accuracy by epoch.

    Args:
        history: one row per epoch, with ``epoch``, ``train_loss``, ``loss`` and ``accuracy``.
        path: PNG file, written atomically.
    """
    from matplotlib.figure import Figure  # without pyplot: no global state, no window system

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    losses, accuracy = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    losses.plot(epochs, [row["train_loss"] for row in history], ".-", label="training")
    losses.plot(epochs, [row["loss"] for row in history], ".-", label="validation")
    losses.set(xlabel="epoch", ylabel="loss")
    losses.legend()
    accuracy.plot(epochs, [row["accuracy"] for row in history], ".-", color="tab:orange")
    accuracy.set(xlabel="epoch", ylabel="validation accuracy")
    for axes in (losses, accuracy):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def draw_runs(histories: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """Draw validation loss and accuracy of several runs by epoch.

    Args:
        histories: rows by run name, one row per epoch; runs without rows are left out.
        path: PNG file, written atomically.

    Raises:
        RunError: no run has finished an epoch.
    """
    from matplotlib.figure import Figure

    drawn = {name: rows for name, rows in histories.items() if rows}
    if not drawn:
        raise RunError("no run has finished an epoch, so there is nothing to draw")
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, figured in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for name, rows in drawn.items():
            plain = name.replace("$", r"\$").lstrip("_")  # matplotlib's mathematics, and its prefix of unlabelled lines
            axes.plot([row["epoch"] for row in rows], [row[figured] for row in rows], ".-", label=plain)
        axes.set(xlabel="epoch", ylabel=f"validation {figured}")
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    if len(drawn) <= _NAMED:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize="small")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
