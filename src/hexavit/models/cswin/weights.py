"""CSWin's published weights: the authors' releases on GitHub."""

from __future__ import annotations

from hexavit.models.weights import Preprocessing, Weight

_README = "microsoft/CSWin-Transformer, README.md"
_RELEASES = "https://github.com/microsoft/CSWin-Transformer/releases/download/v0.1.0"
_1K, _22K = "ImageNet-1k", "ImageNet-22k"
_DATA = {"in1k": (_1K,), "in22k_ft_in1k": (_22K, _1K), "in22k": (_22K,)}

PREPROCESSING = {224: Preprocessing(crop_pct=0.9), 384: Preprocessing(crop_pct=1.0)}
"""The authors' evaluation, by image size."""

# For each tag, the authors' file and its top-1. `pretrained=True` uses the first tag of a model.
_RELEASED: dict[str, dict[str, tuple[str, float | None]]] = {
    "cswin_tiny_224": {"in1k": ("cswin_tiny_224", 0.828)},
    "cswin_small_224": {"in1k": ("cswin_small_224", 0.836)},
    "cswin_base_224": {"in1k": ("cswin_base_224", 0.842)},
    "cswin_base_384": {"in1k": ("cswin_base_384", 0.855)},
    "cswin_large_224": {"in22k_ft_in1k": ("cswin_large_224", 0.865), "in22k": ("cswin_large_22k_224", None)},
    "cswin_large_384": {"in22k_ft_in1k": ("cswin_large_384", 0.875)},
}


def weights(model: str) -> tuple[Weight, ...]:
    """The published weights of the CSWin named `model`."""
    size = int(model.rpartition("_")[2])
    return tuple(
        Weight(
            tag=tag,
            link=f"{_RELEASES}/{file}.pth",
            img_size=size,
            num_classes=21841 if tag == "in22k" else 1000,
            trained_on=_DATA[tag],
            license="mit",
            code_license="mit",
            top1=top1,
            source=_README if top1 else None,
            preprocessing=PREPROCESSING[size],
            note="the authors use `state_dict_ema` where a file has it: load_checkpoint(model, path, entry=...)",
        )
        for tag, (file, top1) in _RELEASED[model].items()
    )
