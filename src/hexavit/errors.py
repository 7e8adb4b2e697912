"""Exceptions for everything that a user can do wrong; each message is one sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HexavitError(ValueError):
    """Base class. The command line prints the message and exits with status 2."""


class ArchitectureError(HexavitError):
    """An architecture that names something unknown, or whose parts do not fit together."""


class CheckpointError(HexavitError):
    """A weight file that cannot be read safely, or whose keys do not fit the model."""


class DataError(HexavitError):
    """Data that is missing, unreadable, or does not fit the model."""


class RunError(HexavitError):
    """A folder that is not a run folder or belongs to another run, or an output that cannot be written."""


_MAX_LISTED = 60


def nearest(value: str, known: Iterable[str]) -> str:
    """End of an error message: the nearest valid choice, or all choices if none is near.

    Args:
        value: what the user gave.
        known: valid choices.

    Returns:
        For example ``"did you mean 'cvt_13'?"`` or ``"choose from a, b."``.
    """
    choices = sorted(filter(None, known))
    folded = {choice.casefold().replace("-", "_"): choice for choice in reversed(choices)}
    given = value.casefold().replace("-", "_")
    longer = [choice for choice in folded if choice.startswith(given + "_")]  # vit_tiny: vit_tiny_patch16_224
    close = difflib.get_close_matches(given, folded, n=1, cutoff=0.5)
    if given not in folded and longer:
        close = [min(longer, key=lambda choice: (len(choice), choice))]
    if close:
        return f"did you mean {folded[close[0]]!r}?"
    if not choices:
        return "there is nothing to choose from."
    if len(choices) > _MAX_LISTED:
        return f"there are {len(choices)}, from {choices[0]!r} to {choices[-1]!r}."
    return "choose from " + ", ".join(choices) + "."
