"""TNT's published weights: the authors' files, and timm's copies of them on the hub."""

from __future__ import annotations

from hexavit.models.weights import INCEPTION_MEAN_STD, Preprocessing, Weight, in1k_weight

HALF = Preprocessing(*INCEPTION_MEAN_STD, crop_pct=0.9)
"""The authors' preprocessing, which is timm's."""
_RELEASE = "https://github.com/huawei-noah/Efficient-AI-Backbones/releases/download/tnt"


def hub_weight(model: str, top1: float, source: str) -> Weight:
    """The authors' weights in timm's repository on the hub, with timm's names."""
    return in1k_weight(f"timm/{model}.in1k", top1, source, "apache-2.0", preprocessing=HALF)


def authors_weight(file: str, top1: float, source: str) -> Weight:
    """The authors' own file."""
    return in1k_weight(f"{_RELEASE}/{file}", top1, source, "apache-2.0", tag="authors_in1k", preprocessing=HALF)
