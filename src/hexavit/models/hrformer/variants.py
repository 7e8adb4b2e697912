"""HRFormer: "HRFormer: High-Resolution Transformer for Dense Prediction", Yuan et al., NeurIPS 2021 (arXiv 2110.09408).

Origin: HRNet/HRFormer, folder cls (MIT), commit 1245b88. Names are the authors'.

What is new against Swin: the first resolution stays to the end. Stages have two, three and four resolutions side by
side, with attention in windows that are not shifted; depth-wise convolutions in the feedforward join the windows, and
after two layers of each resolution all are fused (HRNet).

Shapes of small at 224: a map of 56 x 56 x 256, then of 56 x 56 x 32, beside it 28 x 28 x 64, 14 x 14 x 128 and
7 x 7 x 256; one of 7 x 7 x 2048 for the classifier.

Cost: 1.708, 3.364 and 13.308 G multiply-adds for tiny, small and base at 224.

Same as the authors' code: a batch norm and GELU end the feedforward; maps that a window does not divide are padded
around their centre, and the padding takes part as keys; the last stage gives all its resolutions.
Differs from the authors' code: the sums of a fusion are ordered otherwise; the bottlenecks of the first stage count as
layers where the rate of stochastic depth rises (base), and have none themselves; any H x W is accepted, each lower
resolution having half the rows and columns, rounded up.
"""

from __future__ import annotations

from collections.abc import Sequence

from hexavit.architecture import Architecture, Branch, Part, Stage
from hexavit.models.registry import Family, Published
from hexavit.models.weights import Preprocessing

PAPER = "https://arxiv.org/abs/2110.09408"
_README = "HRNet/HRFormer, cls/README.md"
_FUSED = (
    Branch("attention"),
    Branch("feedforward"),
    Branch("attention", name="attention2"),
    Branch("feedforward", name="feedforward2"),
    Branch("feedforward", Part("resolution_fusion"), Part("post_act", stochastic_depth=False), name="fusion"),
)


def _hrformer(
    name: str,
    dim: int,
    heads: int,
    modules: Sequence[int],
    drop_path: float = 0.0,
    *,
    stem: int = 64,
    first_dim: int = 256,
    inner: int = 32,
    last_dim: int = 2048,
    window: int = 7,
    img_size: int = 224,
) -> Architecture:
    """An HRFormer.

    Args:
        name: of the model.
        dim: width of the first resolution; each lower one has twice that of the one before.
        heads: of the first resolution, doubled likewise.
        modules: number of blocks, of two layers and a fusion each, in the stages with 2, 3, ... resolutions.
        drop_path: rate of the last layer.
        stem: width of the stem.
        first_dim: width of the first stage.
        inner: width inside the first bottleneck of the last stage.
        last_dim: width of the last stage.
        window: side of a window.
        img_size: side of the images.
    """
    first = Part("conv_stem", channels=(stem, stem), kernels=(3, 3), strides=(2, 2), last_kernel=None)
    stages = [
        Stage(
            dim,
            depth,
            tokens=Part("add_resolution"),
            attention=Part("window", heads=heads, window=window, shrink=False, padding="centre"),
            position=Part("relative_bias"),
            feedforward=Part("conv_mlp", last_act="gelu"),
            drop_path=drop_path,
            block=_FUSED,
        )
        for depth in modules
    ]
    return Architecture(
        name,
        (
            _without_attention(first_dim, 2, first),
            *stages,
            _without_attention(last_dim, 0, Part("join_resolutions", inner=inner)),
        ),
        Part("pool", norm=False),
        img_size=(img_size, img_size),
    )


def _without_attention(dim: int, depth: int, tokens: Part) -> Stage:
    """A stage of convolutional bottlenecks."""
    block = (Branch("attention"),)
    return Stage(dim, depth, tokens, Part("conv_bottleneck"), residual=Part("post_act"), block=block)


# size, width, heads, modules, drop path, published (millions of parameters, GFLOPs, top-1)
_VARIANTS = (
    ("tiny", 18, 1, (1, 3, 2), 0.0, (8.0, 1.83, 0.786)),
    ("small", 32, 1, (1, 4, 2), 0.0, (13.5, 3.56, 0.812)),
    ("base", 78, 2, (1, 4, 2), 0.2, (50.3, 13.71, 0.828)),
)
_FAMILY = Family("hrformer", PAPER, Preprocessing(crop_pct=0.875))
for _size, _dim, _heads, _modules, _rate, _figures in _VARIANTS:
    _FAMILY.register(
        _hrformer(f"hrt_{_size}", _dim, _heads, _modules, _rate),
        f"HRFormer-{_size[0].upper()}",
        Published(_README, 224, *_figures),
    )
_FAMILY.register_nano(
    _hrformer(
        "hrt_nano",
        12,
        1,
        (1, 1, 1),
        stem=16,
        first_dim=32,
        inner=8,
        last_dim=128,
        window=3,
        img_size=32,
    ),
    "HRFormer at 0.8 million",
)
