"""ELSA-Swin: "ELSA: Enhanced Local Self-Attention for Vision Transformer", Zhou et al., 2021 (arXiv 2112.12786).

Origin: damo-cv/ELSA (MIT), commit f3b7ac7a, folder cls. Names are those of its builder functions.

What is new against Swin: in the first three stages each token has a filter for its 7 x 7 neighbours instead of a
window. Its logits come from the product of query and key at each place, through a convolution (Hadamard attention), and
each channel adds a static filter of its own (ghost head). The last stage keeps windows.

Shapes at 224: (B, 3, 224, 224) to grids of 56, 28, 14, 7 with widths C, 2 C, 4 C, 8 C, to (B, 1000).

Cost: 4.704 G multiply-adds for ELSA-Swin-T, 9.445 G for S, 16.516 G for B.

Same as the authors' code: places outside of the map take part in the softmax; queries and keys have other widths than
values; products are not scaled; the last stage's windows are Swin's.
Differs from the authors' code: any H x W is accepted; odd maps are padded before merging, and maps that the last
stage's window does not divide are padded as Swin's are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hexavit.architecture import Architecture, Part
from hexavit.models.registry import Family, Published
from hexavit.models.swin.variants import swin_stages
from hexavit.models.weights import Preprocessing

PAPER = "https://arxiv.org/abs/2112.12786"
_README = "damo-cv/ELSA, README.md (parameters, top-1); arXiv 2112.12786, not re-read (GFLOPs)"


def _elsa(
    name: str,
    dim: int,
    depths: Sequence[int],
    heads: Sequence[int],
    group_width: int,
    drop_path: float,
    *,
    kernel: int = 7,
    patch: int = 4,
    img_size: int = 224,
) -> Architecture:
    *local, last = swin_stages(dim, depths, heads, drop_path=drop_path, patch=patch)
    options = {"kernel": kernel, "terms": "hadamard", "group_width": group_width, "gamma": 1.0, "scale": 1.0}
    stages = [
        replace(stage, attention=Part("local", heads=count, **options), position=Part("none"))
        for stage, count in zip(local, heads[:-1], strict=True)
    ]
    return Architecture(name, (*stages, last), Part("pool"), img_size=(img_size, img_size), norm_eps=1e-5)


# name, summary, C, depths, heads of the first stage, group width, drop path, published M and G, top-1
_VARIANTS = (
    ("tiny", "ELSA-Swin-T", 96, (2, 2, 6, 2), 3, 4, 0.1, (29, 4.8, 0.827)),
    ("small", "ELSA-Swin-S", 96, (2, 2, 18, 2), 3, 8, 0.3, (53, 9.6, 0.835)),
    ("base", "ELSA-Swin-B", 128, (2, 2, 18, 2), 4, 8, 0.5, (93, 16.7, 0.840)),
)

_FAMILY = Family("elsa", PAPER, Preprocessing(crop_pct=0.9))
for _name, _summary, _dim, _depths, _heads, _width, _drop, _figures in _VARIANTS:
    _FAMILY.register(
        _elsa(f"elsa_swin_{_name}", _dim, _depths, [_heads * 2**i for i in range(4)], _width, _drop),
        _summary,
        Published(_README, 224, *_figures),
    )
_FAMILY.register_nano(
    _elsa("elsa_swin_nano", 20, (1, 1, 2, 1), (1, 2, 4, 8), 4, 0.1, kernel=3, patch=2, img_size=32),
    "ELSA-Swin at 0.7 million",
)
