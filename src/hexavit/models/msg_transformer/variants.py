"""MSG-Transformer: "Exchanging Local Spatial Information by Manipulating Messenger Tokens", Fang et al., CVPR 2022
(arXiv 2105.15168).

Origin: hustvl/MSG-Transformer, models/msg_transformer.py (Apache-2.0), commit 068da56a: the architecture of December
2021, which is stronger than that of the first arXiv version. Names are those of its configurations.

What is new against Swin: windows do not shift. Each window has one messenger, an extra token that attends with its
tokens. Behind the attention the messengers of a region of 4 x 4 or 2 x 2 windows exchange groups of their channels.
Overlapping convolutions make the tokens of every stage, and run over the grid of messengers, too. The one messenger of
the last stage is classified.

Shapes at 224: (B, 3, 224, 224) to grids of 56, 28, 14, 7 with 64, 16, 4, 1 messengers and widths C, 2 C, 4 C, 8 C, to
(B, 1000).

Cost: 3.821 G multiply-adds for MSG-T, 8.459 G for MSG-S, 14.244 G for MSG-B.

Differs from the authors' code: any H x W is accepted (theirs: maps of whole regions, and one window at the end). Maps
that the window does not divide are padded with zeros at the bottom and at the right, and have a messenger for each
window begun; regions at the border may have fewer windows, and groups of channels that would come from a missing one
stay; if several messengers are left, their mean is classified. In training a branch is dropped for a whole image, not
for each region.
"""

from __future__ import annotations

from collections.abc import Sequence

from hexavit.architecture import Architecture, Part
from hexavit.models.pyramids import pyramid
from hexavit.models.registry import Family, Published

PAPER = "https://arxiv.org/abs/2105.15168"
_README = "hustvl/MSG-Transformer, README.md"


def _msg(
    name: str,
    dim: int,
    depths: Sequence[int],
    heads: int,
    drop_path: float,
    *,
    window: int = 7,
    regions: Sequence[int] = (4, 4, 2, 1),
    img_size: int = 224,
) -> Architecture:
    """Stages that double the width and the heads; `regions` are the sides of their regions in windows."""
    count = len(depths)
    later = [Part("messenger_merging", window=window)] * (count - 1)
    stages = pyramid(
        [dim * 2**i for i in range(count)],
        depths,
        drop_path,
        tokens=[Part("messenger_conv", kernel=7, stride=4, padding=2, window=window, region=regions[0]), *later],
        position=[Part("relative_bias")] * count,
        attention=[Part("messenger_window", heads=heads * 2**i, window=window) for i in range(count)],
        residual=[Part("messenger_exchange", window=window, region=region) for region in regions],
    )
    return Architecture(name, stages, Part("messengers"), img_size=(img_size, img_size), norm_eps=1e-5)


# name, C, depths, heads of the first stage, drop path, published (millions of parameters, GFLOPs, top-1)
_VARIANTS = (
    ("tiny", 64, (2, 4, 12, 4), 2, 0.1, (25, 3.8, 0.824)),
    ("small", 96, (2, 4, 12, 4), 3, 0.3, (56, 8.4, 0.834)),
    ("base", 96, (2, 4, 28, 4), 3, 0.5, (84, 14.2, 0.840)),
)

_FAMILY = Family("msg_transformer", PAPER)
for _size, _dim, _depths, _heads, _drop, _figures in _VARIANTS:
    _FAMILY.register(
        _msg(f"msg_{_size}_p4_win7_224", _dim, _depths, _heads, _drop),
        f"MSG-{_size[0].upper()}",
        Published(_README, 224, *_figures),
    )
_FAMILY.register_nano(
    _msg("msg_nano", 32, (2, 2, 2), 1, 0.1, window=2, regions=(2, 2, 1), img_size=32),
    "MSG-Transformer at 0.7 million",
)
