"""MViT for images: "Multiscale Vision Transformers", Fan et al., ICCV 2021 (arXiv 2104.11227).

Origin: facebookresearch/SlowFast (Apache-2.0), commit 287ec007, configs/ImageNet/MVIT_B_16_CONV.yaml: a video model run
on one frame.

What is new against ViT: queries, keys and values are pooled by depth-wise convolutions. A stride of the queries shrinks
the grid at the start of a stage; strides of keys and values make attention cheap where the grid is fine. The width
grows in the feedforward of the last block of a stage.

Shapes at 224: (B, 3, 224, 224) to grids of 56, 28, 14, 7 with widths 96, 192, 384, 768 and a class token; the maps that
leave the stages have 192, 384, 768, 768 channels; to (B, 1000).

Cost: 7.809 G multiply-adds for B-16.

Same as the authors' code. Differs: any H x W is accepted, with the position table resized; theirs needs the size that
it was built for.
"""

from __future__ import annotations

from collections.abc import Sequence

from hexavit.architecture import Architecture, Column, Part, Pattern, Stage
from hexavit.models.registry import Family, Published

PAPER = "https://arxiv.org/abs/2104.11227"
_ZOO = "facebookresearch/SlowFast, MODEL_ZOO.md; cost: MViT, table of ImageNet"


def kv_strides(first: int, stages: int) -> list[int]:
    """Strides of keys and values: halved, and at least 1, wherever the queries have a stride of 2."""
    return [max(first >> i, 1) for i in range(stages)]


def pooled_patches() -> Part:
    """Overlapping patches without a norm."""
    return Part("conv", kernel=7, stride=4, padding=3, norm=False)


def wider_at_the_end(stages: int) -> list[Column]:
    """MLPs of ratio 4 whose width doubles in the last block of each stage but the last."""
    growing = Pattern([Part("mlp")], at={-1: Part("mlp", out_ratio=2.0)})
    return [*[growing] * (stages - 1), Part("mlp")]


def _mvit(
    name: str, dim: int, depths: Sequence[int], drop_path: float, *, stride_kv: int = 4, img_size: int = 224
) -> Architecture:
    stages = []
    strides, feedforward = kv_strides(stride_kv, len(depths)), wider_at_the_end(len(depths))
    for i, depth in enumerate(depths):
        options = {"heads": 2**i, "residual_q": False, **({"stride_kv": strides[i]} if strides[i] > 1 else {})}
        plain = Part("pooling", **options, pool_q=False)
        stages.append(
            Stage(
                dim * 2**i,
                depth,
                tokens=Part("keep") if i else pooled_patches(),
                position=Part("none") if i else Part("learned", resize="bilinear_plain"),
                attention=Pattern([plain], at={0: Part("pooling", **options, stride_q=2)}) if i else plain,
                feedforward=feedforward[i],
                residual=Part("pre_norm", pool_kernel=3),
                drop_path=drop_path,
            )
        )
    head = Part("class_token", enter=0, decay=True)
    return Architecture(name, tuple(stages), head, img_size=(img_size, img_size), init="constant_biases")


_FAMILY = Family("mvit", PAPER)
_FAMILY.register(
    _mvit("mvit_b_16_conv", 96, (1, 2, 11, 2), 0.1),
    "MViT-B-16 with pooling by convolution",
    Published(_ZOO, 224, 37.0, 7.8, 0.829),
)
_FAMILY.register_nano(_mvit("mvit_nano", 32, (1, 2, 2), 0.0, stride_kv=2, img_size=32), "MViT at 0.7 million")
