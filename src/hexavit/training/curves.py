"""The course of a training as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hexavit.training.files import replacing


def draw_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw loss and held-out accuracy over the epochs into a PNG file.

    Args:
        history: one row an epoch, with ``epoch``, ``train_loss``, ``loss`` and ``accuracy``.
        path: of the file, which is written whole.
    """
    from matplotlib.figure import Figure  # without pyplot: no global state, no window system

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    losses, accuracy = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    losses.plot(epochs, [row["train_loss"] for row in history], ".-", label="training")
    losses.plot(epochs, [row["loss"] for row in history], ".-", label="held out")
    losses.set(xlabel="epoch", ylabel="loss")
    losses.legend()
    accuracy.plot(epochs, [row["accuracy"] for row in history], ".-", color="tab:orange")
    accuracy.set(xlabel="epoch", ylabel="held-out accuracy")
    for axes in (losses, accuracy):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
