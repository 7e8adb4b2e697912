"""Names of ImageNet's classes, in the order of the heads that were trained on it."""

from __future__ import annotations

from collections import Counter
from functools import cache

IMAGENET_1K = 1000


@cache
def imagenet_classes() -> tuple[str, ...]:
    """ImageNet-1k's 1000 classes in words: the first synonym, with WordNet's number where two classes share it."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    first = [str(info.index_to_description(i)).split(", ")[0] for i in range(IMAGENET_1K)]
    counts = Counter(first)
    return tuple(
        word if counts[word] == 1 else f"{word} ({key})" for word, key in zip(first, imagenet_numbers(), strict=True)
    )


@cache
def imagenet_numbers() -> tuple[str, ...]:
    """The same classes by WordNet's numbers, after which the folders of ImageNet are named: `n01440764`."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    return tuple(info.index_to_label_name(i) for i in range(IMAGENET_1K))
