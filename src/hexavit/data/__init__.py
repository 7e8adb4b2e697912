"""Labelled images for training and evaluation: sources, splits, augmentation and loaders."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hexavit.data.digits import Digits
from hexavit.data.huggingface import HuggingFaceImages, is_huggingface
from hexavit.data.image_folder import ImageFolder
from hexavit.data.published import PublishedSet, names_set
from hexavit.data.source import Hints, Source, Split
from hexavit.data.table import SUFFIXES, ImageTable
from hexavit.data.tar_shards import TarShards, shards_in
from hexavit.errors import DataError

__all__ = [
    "Digits",
    "Hints",
    "HuggingFaceImages",
    "ImageFolder",
    "ImageTable",
    "PublishedSet",
    "Source",
    "Split",
    "TarShards",
    "open_source",
    "reopen_source",
]


def open_source(data: str) -> Source:
    """Open the data that ``--data`` names.

    Args:
        data: ``digits``, a folder, a table, tar files, ``cifar10:FOLDER``, or a Hugging Face data set on disk.

    Raises:
        DataError: if it is none of these.
    """
    if data == Digits.name:
        return Digits()
    if names_set(data):
        return PublishedSet(data)
    path = Path(data)
    if shards_in(path):
        return TarShards(path)
    if is_huggingface(path):
        return HuggingFaceImages(path)
    return ImageTable(path) if path.suffix.lower() in SUFFIXES and not os.path.isdir(path) else ImageFolder(data)


def reopen_source(data: str, record: Mapping[str, Any], classes: Sequence[str]) -> Source:
    """Open the data of a run again, from any working directory.

    Args:
        data: as it was given; a relative path may lead elsewhere by now.
        record: from ``split.json``, which holds the absolute path.
        classes: in the order of the run.

    Raises:
        DataError: if the data is not there, or its classes have changed.
    """
    try:
        source = open_source(record["data"])
    except DataError:  # the data has been moved since
        source = open_source(data)
    source.set_classes(classes)
    return source
