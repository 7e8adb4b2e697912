"""CvT's published weights: the authors' tensors with the key names of Hugging Face's transformers.

Some repositories have safetensors files, others only a `.bin` file. Checksums are those of the hub. Licences are as
stated by the repositories; the authors' code is MIT. Accuracies are the authors', measured with the sigmoid form of
GELU, which is used here. transformers uses the exact form with these weights, which changes the logits by 1 %.
"""

from __future__ import annotations

from hexavit.models.weights import Preprocessing, Weight

_README = "microsoft/CvT, README.md, at f851e681"
SQUASH = Preprocessing(crop_pct=1.0, crop_mode="squash")  # at 384 the authors do not crop


def _weight(model: str, img_size: int, top1: float, *, in22k: bool = False) -> Weight:
    size = "" if img_size == 224 else f"_{img_size}"
    return Weight(
        tag=("in22k_ft_in1k" if in22k else "in1k") + size,
        hub_id=f"microsoft/{model}{size.replace('_', '-')}{'-22k' if in22k else ''}",
        img_size=img_size,
        trained_on=("ImageNet-22k", "ImageNet-1k") if in22k else ("ImageNet-1k",),
        license="apache-2.0",
        code_license="mit",
        top1=top1,
        source=_README,
        preprocessing=Preprocessing() if img_size == 224 else SQUASH,
        note="the authors' weights, trained with quick_gelu, which is the default activation of this model",
    )


CVT_13 = (
    _weight("cvt-13", 224, 0.816),
    _weight("cvt-13", 384, 0.830),
    _weight("cvt-13", 384, 0.833, in22k=True),
)
CVT_21 = (
    _weight("cvt-21", 224, 0.825),
    _weight("cvt-21", 384, 0.833),
    _weight("cvt-21", 384, 0.849, in22k=True),
)
CVT_W24 = (_weight("cvt-w24", 384, 0.876, in22k=True),)
