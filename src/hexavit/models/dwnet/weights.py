"""DWNet's published weights: the authors' release on GitHub."""

from __future__ import annotations

from hexavit.models.weights import Weight, in1k_weight

README = "Atten4Vis/DemystifyLocalViT, README.md"
_FILES = "https://github.com/Atten4Vis/DemystifyLocalViT/releases/download/prerelease"


def weights(model: str, top1: float | None) -> tuple[Weight, ...]:
    """The published weights of the DWNet named `model`; there are none of inhomogeneous ones."""
    if model.startswith("i_"):
        return ()
    return (in1k_weight(f"{_FILES}/{model}_224.pth", top1, README, "mit"),)
