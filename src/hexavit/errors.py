"""Every refusal that a user can cause is one of these, and its message is one clear sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HexavitError(ValueError):
    """Base of all refusals; the command line prints its sentence and exits with 2."""


class ArchitectureError(HexavitError):
    """An architecture that names something unknown, or whose parts do not fit together."""


class CheckpointError(HexavitError):
    """A file that cannot be read safely, or whose keys do not explain the model."""


class DataError(HexavitError):
    """Data that is missing, unreadable, or does not fit the model."""


class RunError(HexavitError):
    """A run folder that is not one, holds another run, or cannot be written."""


def nearest(value: str, known: Iterable[str]) -> str:
    """A tail for a refusal: the nearest valid choice, or all of them when nothing is near."""
    choices = sorted(known)
    close = difflib.get_close_matches(value, choices, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    if not choices:
        return "there is nothing to choose from."
    return "choose from " + ", ".join(choices) + "."
