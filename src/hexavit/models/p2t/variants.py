"""P2T: "Pyramid Pooling Transformer for Scene Understanding", Wu et al., IEEE TPAMI 2022 (arXiv 2106.12011).

Origin: yuhuan-wu/P2T, p2t.py, commit acd5e64d. Code and weights are licensed CC BY-NC-SA 4.0 (non-commercial). This
implementation was written from a description of that code. Names are those of its builder functions.

What is new against PVT v2: keys and values are average pools of the map at four ratios, each with a depth-wise
convolution that the blocks of a stage share. The feedforward is an inverted residual with h-swish. No stage ends with
a norm.

Shapes at 224: (B, 3, 224, 224) to grids of 56, 28, 14, 7 with widths 64, 128, 320, 512, to (B, 1000), from the mean of
the tokens of the last stage.

Cost: 1.789 G multiply-adds for Tiny, 3.774 G for Small, 6.532 G for Base, 9.828 G for Large.

Same as the authors' code: pools are adaptive, and their sizes are rounded half to even; pooled tokens are normalised a
second time.
Differs from the authors' code: any H x W is accepted; a pool of size 0 becomes a pool of size 1 (theirs fails).
"""

from __future__ import annotations

from collections.abc import Sequence

from hexavit.architecture import Architecture, Part
from hexavit.models.pvt.variants import DIMS, HEADS, RATIOS
from hexavit.models.pyramids import EPS, SMALL, overlapping, pyramid
from hexavit.models.registry import Family, Published
from hexavit.models.weights import in1k_weight

PAPER = "https://arxiv.org/abs/2106.12011"
_README = "yuhuan-wu/P2T, README.md"
_POOLS = ((12, 16, 20, 24), (6, 8, 10, 12), (3, 4, 5, 6), (1, 2, 3, 4))

# name, widths, depths, drop path, published (millions of parameters, GFLOPs, top-1), identifier on Google Drive
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


# The part after # is the file name in the cache; the URL has none.
_LINK = "https://drive.usercontent.google.com/download?id={}&export=download&confirm=t#p2t_{}.pth"
_NOTE = "an older file with the same name has another architecture, that of the preprint, and cannot be loaded"
_FAMILY = Family("p2t", PAPER)
for _size, _dims, _depths, _drop, _figures, _place in _VARIANTS:
    _link = _LINK.format(_place, _size)
    _FAMILY.register(
        _p2t(f"p2t_{_size}", _dims, _depths, _drop),
        f"P2T-{_size.capitalize()}",
        Published(_README, 224, *_figures),
        weights=[in1k_weight(_link, _figures[-1], _README, "cc-by-nc-sa-4.0", note=_NOTE)],
    )
_FAMILY.register_nano(
    _p2t("p2t_nano", **SMALL, pools=((2, 4, 8), (1, 2, 4), (1, 2), (1, 2)), ratios=(4.0,) * 4), "P2T at 0.6 million"
)
