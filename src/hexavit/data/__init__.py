"""Labelled images for training and evaluation: sources, splits, augmentation and loaders."""

import os
from pathlib import Path

from hexavit.data.digits import Digits
from hexavit.data.huggingface import HuggingFaceImages, is_huggingface
from hexavit.data.image_folder import ImageFolder
from hexavit.data.published import PublishedSet, names_set
from hexavit.data.source import Hints, Source, Split
from hexavit.data.table import SUFFIXES, ImageTable
from hexavit.data.tar_shards import TarShards, shards_in

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
