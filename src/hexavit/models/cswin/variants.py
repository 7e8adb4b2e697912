"""CSWin: "CSWin Transformer: A General Vision Transformer Backbone with Cross-Shaped Windows", Dong et al., CVPR 2022
(arXiv 2107.00652).

Origin: microsoft/CSWin-Transformer (MIT), commit f111ae2f. Names are those of its files.

What is new against Swin: half of the heads attends in vertical stripes, half in horizontal ones; the stripes get wider
from stage to stage, and the last stage attends to the whole map. The position is a depth-wise convolution of the values
inside each stripe. Convolutions that overlap make the tokens of every stage.

Shapes at 224: (B, 3, 224, 224) to grids of 56, 28, 14, 7 with widths C, 2 C, 4 C, 8 C, to (B, 1000).

Cost: 4.324 G multiply-adds for CSWin-T, 6.801 G for CSWin-S, 14.926 G for CSWin-B.

Same as the authors' code: the heads of CSWin-B are twice those of the paper's table; the first convolution pads 2.
Differs from the authors' code: any H x W is accepted. A map that a stripe does not divide is padded as in their
segmentation code; their classification code raises an error.
"""

from __future__ import annotations

from collections.abc import Sequence

from hexavit.architecture import Architecture, Part
from hexavit.models.cswin.weights import PREPROCESSING, weights
from hexavit.models.pyramids import pyramid
from hexavit.models.registry import Family, Published

PAPER = "https://arxiv.org/abs/2107.00652"
_README = "microsoft/CSWin-Transformer, README.md"
_1K, _22K = "ImageNet-1k", "ImageNet-22k"


def _cswin(
    name: str,
    dims: Sequence[int],
    depths: Sequence[int],
    heads: Sequence[int],
    splits: Sequence[int],
    drop_path: float,
    img_size: int,
) -> Architecture:
    """Four stages; `splits` are the widths of the stripes of all but the last, which has none."""
    stages = pyramid(
        dims,
        depths,
        drop_path,
        tokens=[Part("conv", kernel=7, stride=4, padding=2), *[Part("conv", kernel=3, stride=2, padding=1)] * 3],
        position=[Part("lepe")] * 4,
        attention=[
            Part("cross_shaped", heads=head, split=split) for head, split in zip(heads, (*splits, None), strict=True)
        ],
    )
    return Architecture(name, stages, Part("pool"), img_size=(img_size, img_size), norm_eps=1e-5)


_SMALL = (2, 4, 32, 2)

# name, size, C, depths, heads, width of the stripes in the third stage, drop path, published M, G, top-1, training data
_VARIANTS = (
    ("tiny", 224, 64, (1, 2, 21, 1), (2, 4, 8, 16), 7, 0.2, (23, 4.3, 0.828, _1K)),
    ("small", 224, 64, _SMALL, (2, 4, 8, 16), 7, 0.4, (35, 6.9, 0.836, _1K)),
    ("base", 224, 96, _SMALL, (4, 8, 16, 32), 7, 0.5, (78, 15.0, 0.842, _1K)),
    ("base", 384, 96, _SMALL, (4, 8, 16, 32), 12, 0.7, (78, 47.0, 0.855, _1K)),
    ("large", 224, 144, _SMALL, (6, 12, 24, 24), 7, 0.2, (173, 31.5, 0.865, _22K)),
    ("large", 384, 144, _SMALL, (6, 12, 24, 24), 12, 0.2, (173, 96.8, 0.875, _22K)),
)

_FAMILY = Family("cswin", PAPER)
for _name, _size, _dim, _depths, _heads, _split, _drop, _figures in _VARIANTS:
    _model, _dims = f"cswin_{_name}_{_size}", [_dim * 2**i for i in range(4)]
    _FAMILY.register(
        _cswin(_model, _dims, _depths, _heads, (1, 2, _split), _drop, _size),
        f"CSWin-{_name[0].upper()}" + (" at 384" if _size == 384 else ""),
        Published(_README, _size, *_figures),
        weights=weights(_model),
        preprocessing=PREPROCESSING[_size],
    )
_FAMILY.register_nano(
    _cswin("cswin_nano", (32, 64, 96, 128), (1, 2, 2, 1), (2, 4, 6, 8), (1, 2, 1), 0.1, 32), "CSWin at 0.7 million"
)
