"""Labelled images for training and judging: where they come from, how they are split, how they are fed."""

import os
from pathlib import Path

from hexavit.training.data.digits import Digits
from hexavit.training.data.folder import ImageFolder
from hexavit.training.data.packed import PackedImages, is_packed
from hexavit.training.data.published import PublishedSet, names_set
from hexavit.training.data.shards import TarShards, shards_in
from hexavit.training.data.source import Hints, Source, Split
from hexavit.training.data.table import SUFFIXES, ImageTable

__all__ = [
    "Digits",
    "Hints",
    "ImageFolder",
    "ImageTable",
    "PackedImages",
    "PublishedSet",
    "Source",
    "Split",
    "TarShards",
    "open_source",
]


def open_source(data: str) -> Source:
    """The data that ``--data`` names: ``digits``, a folder, a table, tar files, ``cifar10:FOLDER``, or a data set of
    Hugging Face's.

    Raises:
        DataError: when it is none of these.
    """
    if data == Digits.name:
        return Digits()
    if names_set(data):
        return PublishedSet(data)
    path = Path(data)
    if shards_in(path):
        return TarShards(path)
    if is_packed(path):
        return PackedImages(path)
    return ImageTable(path) if path.suffix.lower() in SUFFIXES and not os.path.isdir(path) else ImageFolder(data)
