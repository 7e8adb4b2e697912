"""Labelled images for training and judging: where they come from, how they are split, how they are fed."""

from hexavit.training.data.digits import Digits
from hexavit.training.data.folder import ImageFolder
from hexavit.training.data.source import Hints, Source, Split

__all__ = ["Digits", "Hints", "ImageFolder", "Source", "Split", "open_source"]


def open_source(data: str) -> Source:
    """The data that ``--data`` names: ``digits``, or a folder.

    Raises:
        DataError: when it is neither.
    """
    return Digits() if data == Digits.name else ImageFolder(data)
