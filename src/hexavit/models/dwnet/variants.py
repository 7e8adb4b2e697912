"""DWNet: "On the Connection between Local Attention and Dynamic Depth-wise Convolution", Han et al., ICLR 2022
(arXiv 2106.04263; first version: "Demystifying Local Vision Transformer").

Origin: Atten4Vis/DemystifyLocalViT (MIT), commit ce7c0b7c. Names are those of its configurations.

What is new against Swin: a depth-wise convolution of 7 x 7 between two 1x1 convolutions, with batch norms, replaces the
windows. Its filters are learned (`dwnet_*`), predicted for each image (`dynamic_*`) or for each place (`i_dynamic_*`).
A batch norm precedes the feedforward, no norm the convolutions.

Shapes at 224: (B, 3, 224, 224) to grids of 56, 28, 14, 7 with widths C, 2 C, 4 C, 8 C, to (B, 1000).

Cost: 3.727 G multiply-adds for tiny, 3.754 G dynamic, 4.374 G inhomogeneous; 12.812, 12.900 and 14.340 G for base.

Same as the authors' code: channels of a head are contiguous; eps is 1e-5 everywhere.
Differs from the authors' code: as released, its constructor makes the dynamic models static; these follow the published
numbers of parameters. Any H x W is accepted: merging pads odd maps; theirs needs sides that halve evenly.
"""

from __future__ import annotations

from collections.abc import Sequence

from hexavit.architecture import Architecture, Branch, Part
from hexavit.models.dwnet.weights import README, weights
from hexavit.models.registry import Family, Published
from hexavit.models.swin.variants import swin_stages

PAPER = "https://arxiv.org/abs/2106.04263"
_PAPER = "arXiv 2106.04263 (top-1), not re-read"
_BLOCK = (Branch("attention", residual=Part("pre_norm", norm=None)), Branch("feedforward"))
_STATIC, _DYNAMIC = Part("depthwise"), Part("depthwise", filters="dynamic")
_PLACES = Part("depthwise", filters="inhomogeneous", heads=32)


def _dwnet(
    name: str, dim: int, depths: Sequence[int], attention: Part, drop_path: float, img_size: int = 224
) -> Architecture:
    stages = swin_stages(
        dim,
        depths,
        [1] * len(depths),
        drop_path=drop_path,
        attention=attention,
        position=Part("none"),
        residual=Part("pre_norm", norm="batch"),
        block=_BLOCK,
    )
    return Architecture(name, stages, Part("pool"), img_size=(img_size, img_size), norm_eps=1e-5)


_T, _B = (96, (2, 2, 6, 2), 0.2), (128, (2, 2, 18, 2), 0.5)

# name, summary, (C, depths, drop path), attention, (source, millions of parameters, GFLOPs, top-1)
_VARIANTS = (
    ("dwnet_tiny", "DWNet-T", _T, _STATIC, (README, 24, 3.8, 0.812)),
    ("dwnet_base", "DWNet-B", _B, _STATIC, (README, 74, 12.9, 0.832)),
    ("dynamic_dwnet_tiny", "dynamic DWNet-T", _T, _DYNAMIC, (README, 51, 3.8, 0.818)),
    ("dynamic_dwnet_base", "dynamic DWNet-B", _B, _DYNAMIC, (README, 162, 13.0, 0.832)),
    ("i_dynamic_dwnet_tiny", "inhomogeneous dynamic DWNet-T", _T, _PLACES, (_PAPER, None, None, 0.818)),
    ("i_dynamic_dwnet_base", "inhomogeneous dynamic DWNet-B", _B, _PLACES, (_PAPER, None, None, 0.834)),
)

_FAMILY = Family("dwnet", PAPER)
for _name, _summary, (_dim, _depths, _drop), _attention, _figures in _VARIANTS:
    _FAMILY.register(
        _dwnet(_name, _dim, _depths, _attention, _drop),
        _summary,
        Published(_figures[0], 224, *_figures[1:]),
        weights=weights(_name, _figures[-1]),
    )
_FAMILY.register_nano(
    _dwnet("dwnet_nano", 32, (2, 2, 2), Part("depthwise", kernel=3), 0.1, 32).override(
        ["stages.1.attention.filters=dynamic", "stages.2.attention=depthwise(kernel=3, filters=inhomogeneous, heads=8)"]
    ),
    "DWNet at 0.6 million",
)
