"""P2T: "Pyramid Pooling Transformer for Scene Understanding", Wu et al., IEEE TPAMI 2022 (arXiv 2106.12011).

Authors' code: yuhuan-wu/P2T, p2t.py, commit acd5e64d: CC BY-NC-SA 4.0, non-commercial, and so are their weights. What
is here is written from its description. Names are its builders'.

What is new in it, against PVT v2: keys and values come from average pools at four ratios, each with a depth-wise
convolution that the stage's blocks share; the feedforward is an inverted residual with h-swish; no norm ends a stage,
the last included.

Shapes at 224: (B, 3, 224, 224) to grids of 56, 28, 14, 7 with widths 64, 128, 320, 512, to (B, 1000), from the mean of
the last stage's tokens.

Same as the authors' code: pools are adaptive, their sizes rounded to even at halves; pooled tokens are normed a second
time.
Differs: any H x W; a pool of size 0 is one of size 1 (theirs fails).
"""

from __future__ import annotations

from collections.abc import Sequence

from hexavit.architecture import Architecture, Part
from hexavit.models.pvt.variants import DIMS, HEADS, RATIOS
from hexavit.models.pyramids import EPS, SMALL, overlapping, pyramid
from hexavit.models.registry import Entry, Published, register
from hexavit.models.weights import Weight

PAPER = "https://arxiv.org/abs/2106.12011"
_README = "yuhuan-wu/P2T, README.md"
_POOLS = ((12, 16, 20, 24), (6, 8, 10, 12), (3, 4, 5, 6), (1, 2, 3, 4))

# name, widths, depths, drop path, published (millions of parameters, GFLOPs, top-1), the weights' place on Google Drive
_VARIANTS = (
    ("tiny", (48, 96, 240, 384), (2, 2, 6, 3), 0.1, (11.6, 1.8, 0.798), "1x9EweWx77pXrHOCc7RJF3sYK2rht0_4m"),
    ("small", DIMS, (2, 2, 9, 3), 0.1, (24.1, 3.7, 0.824), "1FlwhyVKw0zqj2mux248gIQFQ8DGPi8rS"),
    ("base", DIMS, (3, 4, 18, 3), 0.3, (36.2, 6.5, 0.835), "1iZoWexUTPUDSIZiJHNRt2zZl2kFj68F4"),
    ("large", (64, 128, 320, 640), (3, 8, 27, 3), 0.3, (54.5, 9.8, 0.839), "13jBJ7ShDJd1juViC-zPtfLXYPRwkNfya"),
)


def _p2t(
    name: str,
    dims: Sequence[int],
    depths: Sequence[int],
    drop_path: float,
    *,
    heads: Sequence[int] = HEADS,
    pools: Sequence[tuple[int, ...]] = _POOLS,
    ratios: Sequence[float] = RATIOS,
    img_size: int = 224,
) -> Architecture:
    stages = pyramid(
        dims,
        depths,
        drop_path,
        tokens=overlapping(),
        attention=[
            Part("spatial_reduction", heads=head, method="pyramid", pool_ratios=pool, eps=EPS)
            for head, pool in zip(heads, pools, strict=True)
        ],
        feedforward=[Part("conv_mlp", ratio=ratio, act="hardswish", norm=False) for ratio in ratios],
    )
    return Architecture(name, stages, Part("pool", norm=False), img_size=(img_size, img_size))


def _weight(size: str, top1: float, place: str) -> Weight:
    return Weight(
        tag="in1k",
        # What stands behind # is the name of the file in the cache: the address has none.
        link=f"https://drive.usercontent.google.com/download?id={place}&export=download&confirm=t#p2t_{size}.pth",
        img_size=224,
        trained_on=("ImageNet-1k",),
        license="cc-by-nc-sa-4.0",
        code_license="cc-by-nc-sa-4.0",
        top1=top1,
        source=_README,
        note="an older file of the same name, of the preprint's other architecture, is in circulation and does not fit",
    )


for _size, _dims, _depths, _drop, (_params, _gflops, _top1), _place in _VARIANTS:
    register(
        Entry(
            _p2t(f"p2t_{_size}", _dims, _depths, _drop),
            "p2t",
            f"P2T-{_size.capitalize()}",
            PAPER,
            published=(Published(_README, 224, _params, _gflops, _top1),),
            weights=(_weight(_size, _top1, _place),),
        )
    )

register(
    Entry(
        _p2t("p2t_nano", **SMALL, pools=((2, 4, 8), (1, 2, 4), (1, 2), (1, 2)), ratios=(4.0,) * 4),
        "p2t",
        "P2T at 0.6 million parameters, for small images and quick studies",
        PAPER,
    )
)
