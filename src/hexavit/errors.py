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


_MANY = 60  # more names than that nobody reads in a sentence


def nearest(value: str, known: Iterable[str]) -> str:
    """A tail for a refusal: the nearest valid choice, or all of them when nothing is near and they are not too many."""
    choices = sorted(known)
    folded = {choice.casefold().replace("-", "_"): choice for choice in reversed(choices)}
    asked = value.casefold().replace("-", "_")
    begun = [choice for choice in folded if choice.startswith(asked + "_")]  # vit_tiny for vit_tiny_patch16_224
    close = difflib.get_close_matches(asked, folded, n=1, cutoff=0.5)
    if asked not in folded and begun:
        close = [min(begun, key=lambda choice: (len(choice), choice))]
    if close:
        return f"did you mean {folded[close[0]]!r}?"
    if not choices:
        return "there is nothing to choose from."
    if len(choices) > _MANY:
        return f"there are {len(choices)}, from {choices[0]!r} to {choices[-1]!r}."
    return "choose from " + ", ".join(choices) + "."
