"""Twins: "Revisiting the Design of Spatial Attention in Vision Transformers", Chu et al., NeurIPS 2021
(arXiv 2104.13840): Twins-PCPVT and Twins-SVT.

Origin: Meituan-AutoML/Twins, gvt.py (Apache-2.0), commit c1ff6714. Names are timm's.

What is new against PVT: a position encoding generator (PEG) after the first block of every stage replaces the position
tables. The mean of the tokens is classified; there is no class token. In SVT, even blocks attend inside windows of 7 x
7 (LSA) and odd blocks attend to a reduced map (GSA).

Shapes at 224: (B, 3, 224, 224) to grids of 56, 28, 14, 7 with widths 64, 128, 320, 512 (PCPVT) or C, 2 C, 4 C, 8 C
(SVT: C = 64, 96 or 128), to (B, 1000).

Cost: 3.809, 6.653 and 9.808 G multiply-adds for PCPVT-S, -B and -L; 2.927, 8.563 and 15.112 G for SVT-S, -B and -L.

Same as the authors' code: eps is 1e-6 in blocks and before the head, 1e-5 in embeddings and reductions; only the last
stage ends with a norm; windows have no shift and no position bias.
Differs from the authors' code: any H x W is accepted (theirs: multiples of 32 for PCPVT, maps divisible by 7 for SVT).
Rows that fill no patch are dropped, small grids are padded, and maps that the window does not divide are padded with
zeros, as in their detection code.
"""

from __future__ import annotations

from collections.abc import Sequence

from hexavit.architecture import Architecture, Column, Part, Pattern
from hexavit.models.pvt.variants import DIMS, HEADS, RATIOS
from hexavit.models.pyramids import REDUCED_LESS, SMALL, hub_weight, patches, pyramid, reduced
from hexavit.models.registry import Family, Published

PAPER = "https://arxiv.org/abs/2104.13840"
_README = "Meituan-AutoML/Twins, README.md"

# name, depths, drop path, published (millions of parameters, GFLOPs, top-1)
_VARIANTS = (
    ("small", (3, 4, 6, 3), 0.2, (24.1, 3.7, 0.812)),
    ("base", (3, 4, 18, 3), 0.3, (43.8, 6.4, 0.827)),
    ("large", (3, 8, 27, 3), 0.5, (60.9, 9.5, 0.831)),
)


def _twins(
    name: str,
    dims: Sequence[int],
    depths: Sequence[int],
    drop_path: float,
    img_size: int,
    **columns: Sequence[Column],
) -> Architecture:
    """Both kinds of Twins: a PEG after the first block of every stage, and average pooling."""
    generator = Pattern([Part("none")], at={0: Part("peg")})
    stages = pyramid(dims, depths, drop_path, tokens=patches(), position=[generator] * 4, **columns)
    return Architecture(name, stages, Part("pool"), img_size=(img_size, img_size), init="fan_out")


def _pcpvt(
    name: str,
    depths: Sequence[int],
    drop_path: float,
    *,
    dims: Sequence[int] = DIMS,
    heads: Sequence[int] = HEADS,
    sr_ratios: Sequence[int] = (8, 4, 2, 1),
    ratios: Sequence[float] = RATIOS,
    img_size: int = 224,
) -> Architecture:
    feedforward = [Part("mlp", ratio=ratio) for ratio in ratios]
    attention = reduced(heads, sr_ratios)
    return _twins(name, dims, depths, drop_path, img_size, attention=attention, feedforward=feedforward)


_FAMILY = Family("twins", PAPER)
for _size, _depths, _drop, _figures in _VARIANTS:
    _name = f"twins_pcpvt_{_size}"
    _FAMILY.register(
        _pcpvt(_name, _depths, _drop),
        f"Twins-PCPVT-{_size[0].upper()}",
        Published(_README, 224, *_figures),
        weights=[hub_weight(_name, _figures[-1], _README, note=f"the authors' file is pcpvt_{_size}.pth")],
    )
_FAMILY.register_nano(
    _pcpvt("twins_pcpvt_nano", **SMALL, sr_ratios=REDUCED_LESS, ratios=(4.0,) * 4), "Twins-PCPVT at 0.7 million"
)

# name, width of the first stage, its heads, depths, drop path, published
_SVT = (
    ("small", 64, 2, (2, 2, 10, 4), 0.2, (24, 2.8, 0.817)),
    ("base", 96, 3, (2, 2, 18, 2), 0.3, (56, 8.3, 0.832)),
    ("large", 128, 4, (2, 2, 18, 2), 0.5, (99.2, 14.8, 0.837)),
)


def _svt(
    name: str,
    dims: Sequence[int],
    heads: Sequence[int],
    depths: Sequence[int],
    drop_path: float,
    *,
    sr_ratios: Sequence[int] = (8, 4, 2, 1),
    window: int = 7,
    img_size: int = 224,
) -> Architecture:
    whole = reduced(heads, sr_ratios)
    local = [Part("window", heads=head, window=window, shrink=False) for head in heads]
    attention = [Pattern(pair) for pair in zip(local, whole, strict=True)]
    return _twins(name, dims, depths, drop_path, img_size, attention=attention)


for _size, _dim, _head, _depths, _drop, _figures in _SVT:
    _name, _powers = f"twins_svt_{_size}", (1, 2, 4, 8)
    _FAMILY.register(
        _svt(_name, [_dim * n for n in _powers], [_head * n for n in _powers], _depths, _drop),
        f"Twins-SVT-{_size[0].upper()}",
        Published(_README, 224, *_figures),
        weights=[hub_weight(_name, _figures[-1], _README, note=f"the authors' file is alt_gvt_{_size}.pth")],
    )
_SMALL_SVT = {**SMALL, "dims": (32, 64, 96, 112), "depths": (2, 2, 2, 2)}
_FAMILY.register_nano(
    _svt("twins_svt_nano", **_SMALL_SVT, sr_ratios=REDUCED_LESS, window=3), "Twins-SVT at 0.9 million"
)
