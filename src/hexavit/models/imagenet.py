"""Names of ImageNet's classes, in the order of the heads that were trained on it or on one of its larger kin."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

IMAGENET_1K = 1000


@cache
def is_imagenet(count: int) -> bool:
    """Whether heads of so many classes are ImageNet's: 1000, or one of the subsets of the whole that timm knows."""
    from timm.data import infer_imagenet_subset

    return infer_imagenet_subset({"num_classes": count}) is not None


@cache
def imagenet_classes(count: int = IMAGENET_1K) -> tuple[str, ...]:
    """The classes in words: the first synonym, with WordNet's number where two classes share it."""
    info = _info(count)
    first = [str(info.index_to_description(i)).split(", ")[0] for i in range(count)]
    counts = Counter(first)
    numbers = imagenet_numbers(count)
    return tuple(word if counts[word] == 1 else f"{word} ({key})" for word, key in zip(first, numbers, strict=True))


@cache
def imagenet_numbers(count: int = IMAGENET_1K) -> tuple[str, ...]:
    """The same classes by WordNet's numbers, after which the folders of ImageNet are named: `n01440764`."""
    info = _info(count)
    return tuple(info.index_to_label_name(i) for i in range(count))


def _info(count: int) -> Any:
    from timm.data import ImageNetInfo, infer_imagenet_subset

    return ImageNetInfo(infer_imagenet_subset({"num_classes": count}) or "imagenet-1k")
