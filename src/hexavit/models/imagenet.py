"""Names of the classes of ImageNet-1k and of the larger subsets of ImageNet, in the order of published heads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

IMAGENET_1K = 1000


@cache
def is_imagenet(count: int) -> bool:
    """Whether `count` is the number of classes of ImageNet-1k or of another subset of ImageNet that timm knows."""
    if count < IMAGENET_1K:  # no subset is smaller, and importing timm takes seconds
        return False
    from timm.data import infer_imagenet_subset

    return infer_imagenet_subset({"num_classes": count}) is not None


@cache
def imagenet_classes(count: int = IMAGENET_1K) -> tuple[str, ...]:
    """Class names: the first synonym of each, followed by the WordNet number where two classes share that synonym."""
    info = _info(count)
    first = [str(info.index_to_description(i)).split(", ")[0] for i in range(count)]
    counts = Counter(first)
    numbers = imagenet_numbers(count)
    return tuple(word if counts[word] == 1 else f"{word} ({key})" for word, key in zip(first, numbers, strict=True))


@cache
def imagenet_numbers(count: int = IMAGENET_1K) -> tuple[str, ...]:
    """WordNet numbers of the classes, such as `n01440764`. ImageNet's folders have these names."""
    info = _info(count)
    return tuple(info.index_to_label_name(i) for i in range(count))


def class_names(count: int, given: Sequence[str] | None = None) -> tuple[str, ...]:
    """Class names of a classifier: the given ones, else ImageNet's if it has as many classes, else their indices."""
    if given is not None:
        return tuple(given)
    return imagenet_classes(count) if is_imagenet(count) else tuple(f"class {i}" for i in range(count))


def class_numbers(classes: tuple[str, ...]) -> dict[str, int]:
    """Index of a class by its WordNet number; empty if the classes are not ImageNet's."""
    count = len(classes)
    known = is_imagenet(count) and imagenet_classes(count) == classes
    return {number: i for i, number in enumerate(imagenet_numbers(count))} if known else {}


def _info(count: int) -> Any:
    from timm.data import ImageNetInfo, infer_imagenet_subset

    return ImageNetInfo(infer_imagenet_subset({"num_classes": count}) or "imagenet-1k")
