"""Swin's and Swin V2's published weights: the authors' weights in timm's repositories on the hub.

Identifiers, licences, heads and preprocessing are timm's; a test compares them with the installed timm. Accuracies are
the authors'. The authors' own files, named in `note`, can be loaded too.
"""

from __future__ import annotations

from hexavit.models.weights import Preprocessing, Weight

_README = "microsoft/Swin-Transformer, README.md"
_1K, _22K = "ImageNet-1k", "ImageNet-22k"
_DATA = {"ms_in1k": (_1K,), "ms_in22k_ft_in1k": (_22K, _1K), "ms_in22k": (_22K,)}

# model, tag, end of the authors' file name, top-1. `pretrained=True` uses the first tag of a model.
_RELEASED = (
    ("swin_tiny_patch4_window7_224", "ms_in1k", "", 0.812),
    ("swin_tiny_patch4_window7_224", "ms_in22k_ft_in1k", "_22kto1k_finetune", 0.809),
    ("swin_tiny_patch4_window7_224", "ms_in22k", "_22k", None),
    ("swin_small_patch4_window7_224", "ms_in22k_ft_in1k", "_22kto1k_finetune", 0.832),
    ("swin_small_patch4_window7_224", "ms_in1k", "", 0.832),
    ("swin_small_patch4_window7_224", "ms_in22k", "_22k", None),
    ("swin_base_patch4_window7_224", "ms_in22k_ft_in1k", "_22kto1k", 0.852),
    ("swin_base_patch4_window7_224", "ms_in1k", "", 0.835),
    ("swin_base_patch4_window7_224", "ms_in22k", "_22k", None),
    ("swin_base_patch4_window12_384", "ms_in22k_ft_in1k", "_22kto1k", 0.864),
    ("swin_base_patch4_window12_384", "ms_in1k", "", 0.845),
    ("swin_base_patch4_window12_384", "ms_in22k", "_22k", None),
    ("swin_large_patch4_window7_224", "ms_in22k_ft_in1k", "_22kto1k", 0.863),
    ("swin_large_patch4_window7_224", "ms_in22k", "_22k", None),
    ("swin_large_patch4_window12_384", "ms_in22k_ft_in1k", "_22kto1k", 0.873),
    ("swin_large_patch4_window12_384", "ms_in22k", "_22k", None),
    ("swinv2_tiny_window8_256", "ms_in1k", "", 0.818),
    ("swinv2_tiny_window16_256", "ms_in1k", "", 0.828),
    ("swinv2_small_window8_256", "ms_in1k", "", 0.837),
    ("swinv2_small_window16_256", "ms_in1k", "", 0.841),
    ("swinv2_base_window8_256", "ms_in1k", "", 0.842),
    ("swinv2_base_window16_256", "ms_in1k", "", 0.846),
    ("swinv2_base_window12_192", "ms_in22k", "_22k", None),
    ("swinv2_base_window12to16_192to256", "ms_in22k_ft_in1k", "_22kto1k_ft", 0.862),
    ("swinv2_base_window12to24_192to384", "ms_in22k_ft_in1k", "_22kto1k_ft", 0.871),
    ("swinv2_large_window12_192", "ms_in22k", "_22k", None),
    ("swinv2_large_window12to16_192to256", "ms_in22k_ft_in1k", "_22kto1k_ft", 0.869),
    ("swinv2_large_window12to24_192to384", "ms_in22k_ft_in1k", "_22kto1k_ft", 0.876),
)


def preprocessing(img_size: int) -> Preprocessing:
    """The authors' evaluation: resize by 256 / 224 and crop; at 384 resize to the square, without a crop."""
    return Preprocessing(crop_pct=1.0, crop_mode="squash") if img_size == 384 else Preprocessing(crop_pct=0.875)


def weights(model: str) -> tuple[Weight, ...]:
    """The published weights of the Swin or Swin V2 named `model`."""
    file = model if "_patch4" in model else model.replace("_window", "_patch4_window", 1)
    size = int(model.replace("to", "_").rsplit("_", 1)[-1])
    return tuple(
        Weight(
            tag=tag,
            hub_id=f"timm/{model}.{tag}",
            img_size=size,
            num_classes=21841 if tag == "ms_in22k" else 1000,
            trained_on=_DATA[tag],
            license="mit",
            code_license="mit",
            top1=top1,
            source=_README if top1 else None,
            preprocessing=Preprocessing(crop_pct=1.0 if size == 384 else 0.9),
            note=f"the authors' file is {file}{end}.pth; the preprocessing here is timm's, and the published accuracy "
            f"is with {'a resize to the square' if size == 384 else 'a crop of 0.875'}",
        )
        for name, tag, end, top1 in _RELEASED
        if name == model
    )
