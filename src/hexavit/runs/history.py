"""The metrics of the finished epochs of a run."""

from __future__ import annotations

from collections.abc import Sequence

Row = dict[str, float]
"""The metrics of one epoch: a row of ``metrics.csv``."""


def best_row(history: Sequence[Row]) -> Row:
    """The first epoch with the highest validation accuracy, or mean average precision if there is one."""
    return max(history, key=lambda row: row.get("map", row["accuracy"]))


def stopped_early(history: Sequence[Row], patience: int) -> bool:
    """Whether the last ``patience`` epochs brought no better validation accuracy; never where ``patience`` is 0."""
    return bool(patience and history) and history[-1]["epoch"] - best_row(history)["epoch"] >= patience
