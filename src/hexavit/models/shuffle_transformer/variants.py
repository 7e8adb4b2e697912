"""Shuffle Transformer: "Rethinking Spatial Shuffle for Vision Transformer", Huang et al., 2021 (arXiv 2106.03650).

Origin: mulinmeng/Shuffle-Transformer, models/shuffle_transformer.py (MIT), commit 8ba81eac. Names are those of its
configurations, without the image size.

What is new against Swin: windows of neighbours alternate with windows of tokens that are H / 7 rows and W / 7 columns
apart, which span the map. A depth-wise convolution between attention and feedforward, as wide as a window, joins
neighbouring windows. Batch norms and ReLU6 replace LayerNorm and GELU.

Shapes at 224: (B, 3, 224, 224) to grids of 56, 28, 14, 7 with widths C, 2 C, 4 C, 8 C, to (B, 1000), from the mean of
the tokens, without a norm.

Cost: 4.673 G multiply-adds for Shuffle-T, 8.967 G for Shuffle-S, 15.742 G for Shuffle-B.

Same as the authors' code: q, k and v have no bias; drop path has one rate for each stage, 0 in the first; the
convolution between attention and feedforward is never dropped.
Differs from the authors' code: any H x W is accepted (theirs: maps that 7 divides). Windows pad other maps with zeros
at the bottom and at the right, and then spread over the padded map; an odd map is padded before it is merged.
"""

from __future__ import annotations

from collections.abc import Sequence

from hexavit.architecture import Architecture, Branch, Part, Pattern, Stage
from hexavit.models.registry import Family, Published

PAPER = "https://arxiv.org/abs/2106.03650"
_README = "mulinmeng/Shuffle-Transformer, README.md"


def _shuffle(
    name: str,
    heads: Sequence[int],
    depths: Sequence[int],
    drop_path: float,
    *,
    window: int = 7,
    first: int = 32,
    img_size: int = 224,
) -> Architecture:
    """Stages of 32 channels a head; `first` is the width of the stem's first convolution."""
    norm = Part("pre_norm", norm="batch")
    never_dropped = Part("pre_norm", norm="batch", stochastic_depth=False)
    local = Branch("feedforward", Part("depthwise_conv", kernel=window), never_dropped, name="local")
    stages = []
    for i, (head, depth) in enumerate(zip(heads, depths, strict=True)):
        dim = 32 * head
        stem = Part("conv_stem", channels=(first, dim), kernels=(3, 3), strides=(2, 2), act="relu6", bias=True)
        near = Part("window", heads=head, window=window, qkv_bias=False)
        stage = Stage(
            dim=dim,
            depth=depth,
            tokens=Part("patch_merging", norm="batch") if i else stem,
            position=Part("relative_bias"),
            attention=Pattern([near, Part("window", **near.options, spread=True)]),
            feedforward=Part("mlp", act="relu6"),
            residual=norm,
            drop_path=drop_path * i / (len(heads) - 1),
            ramp="constant",
            block=(Branch("attention"), local, Branch("feedforward")),
        )
        stages.append(stage)
    head_part = Part("pool", norm=False)
    return Architecture(
        name, tuple(stages), head_part, img_size=(img_size, img_size), norm_eps=1e-5, init="trunc_normal_all"
    )


# name, heads of the first stage, depths, drop path, published (millions of parameters, GFLOPs, top-1)
_VARIANTS = (
    ("tiny", 3, (2, 2, 6, 2), 0.1, (28, 4.6, 0.824)),
    ("small", 3, (2, 2, 18, 2), 0.3, (50, 8.9, 0.836)),
    ("base", 4, (2, 2, 18, 2), 0.5, (88, 15.6, 0.840)),
)

_FAMILY = Family("shuffle_transformer", PAPER)
for _size, _heads, _depths, _drop, _figures in _VARIANTS:
    _FAMILY.register(
        _shuffle(f"shuffle_{_size}", [_heads * 2**i for i in range(4)], _depths, _drop),
        f"Shuffle-{_size[0].upper()}",
        Published(_README, 224, *_figures),
    )
_FAMILY.register_nano(
    _shuffle("shuffle_nano", (1, 2, 3), (2, 2, 2), 0.1, window=3, first=16, img_size=32),
    "Shuffle Transformer at 0.5 million",
)
