"""ResT: "An Efficient Transformer for Visual Recognition", Zhang & Yang, NeurIPS 2021 (arXiv 2105.13677).

Origin: wofmanaf/ResT, models/rest.py (Apache-2.0), commit b9245d3f. Names are those of its builder functions. ResT v2,
in the same repository, is another architecture.

What is new against PVT: a convolutional stem and embeddings with batch norm. Pixel attention encodes positions at the
start of every stage. A depth-wise convolution reduces keys and values, a convolution mixes the attention logits across
the heads, and instance norm follows the softmax.

Shapes at 224: (B, 3, 224, 224) to grids of 56, 28, 14, 7 with widths 64, 128, 256, 512 (base, large: 96 to 768), to
(B, 1000), from the mean of the normalised tokens.

Cost: 1.533 G multiply-adds for lite, 2.093 G for small, 4.626 G for base, 8.360 G for large.

Same as the authors' code: eps is 1e-5 everywhere; the number of heads depends on the stage, not on the width; a single
head is not mixed; the instance norm follows the softmax.
Differs from the authors' code: any H x W is accepted (theirs: multiples of 32); odd grids are rounded up, as by the
convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence

from hexavit.architecture import Architecture, Part
from hexavit.models.pyramids import REDUCED_LESS, SMALL, pyramid
from hexavit.models.registry import Family, Published
from hexavit.models.weights import Preprocessing

PAPER = "https://arxiv.org/abs/2105.13677"
_README = "wofmanaf/ResT, README.md"
_SLIM, _WIDE = (64, 128, 256, 512), (96, 192, 384, 768)

# name, widths, depths, drop path (as recalled), published (millions of parameters, GFLOPs, top-1)
_VARIANTS = (
    ("lite", _SLIM, (2, 2, 2, 2), 0.1, (11, 1.4, 0.772)),
    ("small", _SLIM, (2, 2, 6, 2), 0.1, (14, 1.9, 0.796)),
    ("base", _WIDE, (2, 2, 6, 2), 0.2, (30, 4.3, 0.816)),
    ("large", _WIDE, (2, 2, 18, 2), 0.3, (52, 7.9, 0.836)),
)


def _rest(
    name: str,
    dims: Sequence[int],
    depths: Sequence[int],
    drop_path: float,
    *,
    heads: Sequence[int] = (1, 2, 4, 8),
    sr_ratios: Sequence[int] = (8, 4, 2, 1),
    img_size: int = 224,
) -> Architecture:
    half = dims[0] // 2
    stem = Part(
        "conv_stem",
        channels=(half, half),
        kernels=(3, 3),
        strides=(2, 1),
        last_kernel=3,
        last_stride=2,
        last_padding=1,
        last_bias=False,
    )
    attention = {"method": "depthwise", "mix_heads": True}
    stages = pyramid(
        dims,
        depths,
        drop_path,
        tokens=[stem, *[Part("conv", kernel=3, stride=2, padding=1, norm="batch")] * 3],
        position=[Part("pixel_attention")] * 4,
        attention=[
            Part("spatial_reduction", heads=head, **({"sr_ratio": ratio} if ratio > 1 else {}), **attention)
            for head, ratio in zip(heads, sr_ratios, strict=True)
        ],
    )
    return Architecture(
        name, stages, Part("pool"), img_size=(img_size, img_size), norm_eps=1e-5, init="trunc_normal_convs"
    )


_FAMILY = Family("rest", PAPER)
for _size, _dims, _depths, _drop, _figures in _VARIANTS:
    _FAMILY.register(
        _rest(f"rest_{_size}", _dims, _depths, _drop),
        f"ResT-{_size.capitalize()}",
        Published(_README, 224, *_figures),
        preprocessing=Preprocessing(crop_pct=0.9),
    )
_FAMILY.register_nano(_rest("rest_nano", **SMALL, sr_ratios=REDUCED_LESS), "ResT at 0.7 million")
