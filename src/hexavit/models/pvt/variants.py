"""PVT: "Pyramid Vision Transformer", Wang et al., ICCV 2021 (arXiv 2102.12122).

Origin: whai362/PVT, classification/pvt.py (Apache-2.0), commit 57e2dfaa. Names are those of its builder functions.

What is new against ViT: four stages with shrinking grids and growing widths. Non-overlapping embeddings with a norm
connect them. A strided convolution reduces the map of keys and values 8, 4, 2 and 1 times per side.

Shapes at 224: (B, 3, 224, 224) to grids of 56, 28, 14, 7 with widths 64, 128, 320, 512, to (B, 1000).

Cost: 1.933 G multiply-adds for Tiny, 3.816 G for Small, 6.659 G for Medium, 9.814 G for Large.

Same as the authors' code: every stage has a position table; the class token and its table row are in the last stage
only; eps is 1e-5 in embeddings and reductions and 1e-6 elsewhere; only the last stage ends with a norm.
Differs from the authors' code: at another size, each table whose grid shape changes is resized (bilinearly, as theirs;
they compare numbers of tokens); a grid smaller than its reduction is padded.
"""

from __future__ import annotations

from collections.abc import Sequence

from hexavit.architecture import Architecture, Part
from hexavit.models.pyramids import REDUCED_LESS, SMALL, patches, pyramid, reduced
from hexavit.models.registry import Family, Published
from hexavit.models.weights import in1k_weight

PAPER = "https://arxiv.org/abs/2102.12122"
_README = "whai362/PVT, README.md; GFLOPs: paper's table"
DIMS, HEADS, RATIOS = (64, 128, 320, 512), (1, 2, 5, 8), (8.0, 8.0, 4.0, 4.0)
_MLPS = tuple(Part("mlp", ratio=ratio) for ratio in RATIOS)

# name, depths, drop path, published (millions of parameters, GFLOPs, top-1)
_VARIANTS = (
    ("tiny", (2, 2, 2, 2), 0.1, (13.2, 1.9, 0.751)),
    ("small", (3, 4, 6, 3), 0.1, (24.5, 3.8, 0.798)),
    ("medium", (3, 4, 18, 3), 0.3, (44.2, 6.7, 0.812)),
    ("large", (3, 8, 27, 3), 0.3, (61.4, 9.8, 0.817)),
)


def pvt(
    name: str,
    depths: Sequence[int],
    drop_path: float,
    *,
    dims: Sequence[int] = DIMS,
    heads: Sequence[int] = HEADS,
    sr_ratios: Sequence[int] = (8, 4, 2, 1),
    feedforward: Sequence[Part] = _MLPS,
    residual: str = "pre_norm",
    img_size: int = 224,
) -> Architecture:
    """PVT's four stages. LocalViT changes the feedforward and its residual."""
    stages = pyramid(
        dims,
        depths,
        drop_path,
        tokens=patches(),
        position=[Part("learned", resize="bilinear_plain")] * 4,
        attention=reduced(heads, sr_ratios),
        feedforward=feedforward,
        residual=[Part(residual)] * 4,
    )
    return Architecture(name, stages, Part("class_token"), img_size=(img_size, img_size))


_NOTE = (
    "the authors' weights (pvt_{}.pth of their release) with transformers' key names; transformers computes every norm "
    "with eps 1e-6"
)
_FAMILY = Family("pvt", PAPER)
for _size, _depths, _drop, _figures in _VARIANTS:
    _FAMILY.register(
        pvt(f"pvt_{_size}", _depths, _drop),
        f"PVT-{_size.capitalize()}",
        Published(_README, 224, *_figures),
        weights=[
            in1k_weight(f"Zetatech/pvt-{_size}-224", _figures[-1], _README, "apache-2.0", note=_NOTE.format(_size))
        ],
    )
_FAMILY.register_nano(
    pvt("pvt_nano", **SMALL, sr_ratios=REDUCED_LESS, feedforward=[Part("mlp", ratio=4.0)] * 4), "PVT at 0.7 million"
)
