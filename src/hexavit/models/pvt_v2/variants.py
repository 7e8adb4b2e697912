"""PVT v2: "Improved Baselines with Pyramid Vision Transformer", Wang et al., Computational Visual Media 2022
(arXiv 2106.13797).

Origin: whai362/PVT, classification/pvt_v2.py (Apache-2.0), commit 57e2dfaa. Names are timm's and the authors'.

What is new against PVT: embeddings overlap, and a norm ends every stage. A depth-wise convolution in the feedforward
replaces the position tables. `_li` pools the map of keys and values to 7 x 7 in every stage.

Shapes at 224: (B, 3, 224, 224) to grids of 56, 28, 14, 7 with widths 64, 128, 320, 512 (b0: 32, 64, 160, 256), to (B,
1000), from the mean of the normalised tokens of the last stage.

Cost: 0.566 G multiply-adds for b0, 4.027 G for b2, 3.889 G for b2_li, 11.717 G for b5.

Same as the authors' code: eps is 1e-6 in blocks and after stages, 1e-5 in embeddings and reductions; the linear
variant has a GELU after the norm of the reduction and a ReLU before the depth-wise convolution.
Differs from the authors' code: a grid smaller than its reduction is padded.
"""

from __future__ import annotations

from collections.abc import Sequence

from hexavit.architecture import Architecture, Part
from hexavit.models.pvt.variants import DIMS, HEADS, RATIOS
from hexavit.models.pyramids import EPS, REDUCED_LESS, SMALL, hub_weight, overlapping, pyramid, reduced
from hexavit.models.registry import Family, Published

PAPER = "https://arxiv.org/abs/2106.13797"
_README = "whai362/PVT, README.md; GFLOPs: paper's table"

# name, widths, depths, MLP ratios, drop path, published (millions of parameters, GFLOPs, top-1)
_VARIANTS = (
    ("b0", (32, 64, 160, 256), (2, 2, 2, 2), RATIOS, 0.1, (3.7, 0.6, 0.705)),
    ("b1", DIMS, (2, 2, 2, 2), RATIOS, 0.1, (14.0, 2.1, 0.787)),
    ("b2", DIMS, (3, 4, 6, 3), RATIOS, 0.1, (25.4, 4.0, 0.820)),
    ("b2_li", DIMS, (3, 4, 6, 3), RATIOS, 0.1, (22.6, 3.9, 0.821)),
    ("b3", DIMS, (3, 4, 18, 3), RATIOS, 0.3, (45.2, 6.9, 0.831)),
    ("b4", DIMS, (3, 8, 27, 3), RATIOS, 0.3, (62.6, 10.1, 0.836)),
    ("b5", DIMS, (3, 6, 40, 3), (4.0, 4.0, 4.0, 4.0), 0.3, (82.0, 11.8, 0.838)),
)


def _pvt_v2(
    name: str,
    dims: Sequence[int],
    depths: Sequence[int],
    ratios: Sequence[float],
    drop_path: float,
    *,
    linear: bool = False,
    heads: Sequence[int] = HEADS,
    sr_ratios: Sequence[int] = (8, 4, 2, 1),
    img_size: int = 224,
) -> Architecture:
    first = "relu" if linear else None
    stages = pyramid(
        dims,
        depths,
        drop_path,
        tokens=overlapping(),
        attention=[Part("spatial_reduction", heads=head, method="pool", eps=EPS) for head in heads]
        if linear
        else reduced(heads, sr_ratios),
        feedforward=[Part("conv_mlp", ratio=ratio, norm=False, first_act=first) for ratio in ratios],
        residual=[Part("pre_norm", stage_norm=True)] * 4,
    )
    return Architecture(name, stages, Part("pool", norm=False), img_size=(img_size, img_size), init="fan_out")


_FAMILY = Family("pvt_v2", PAPER)
for _size, _dims, _depths, _ratios, _drop, _figures in _VARIANTS:
    _name = f"pvt_v2_{_size}"
    _FAMILY.register(
        _pvt_v2(_name, _dims, _depths, _ratios, _drop, linear=_size == "b2_li"),
        f"PVT v2-{_size.upper().replace('_LI', '-Li')}",
        Published(_README, 224, *_figures),
        weights=[hub_weight(_name, _figures[-1], _README, note=f"the authors' file is {_name}.pth")],
    )
_FAMILY.register_nano(
    _pvt_v2("pvt_v2_nano", **SMALL, sr_ratios=REDUCED_LESS, ratios=(4.0,) * 4), "PVT v2 at 0.8 million"
)
