"""BoTNet: "Bottleneck Transformers for Visual Recognition", Srinivas et al., CVPR 2021 (arXiv 2101.11605).

The authors published no PyTorch repository; the block follows timm's (`botnet26t_256`), which follows their gist.

What is new against ResNet: in the last bottlenecks, attention of all tokens takes the place of the 3x3 convolution. Its
logits have a relative position that depends on the queries.

Shapes of BoTNet-50 at 224: maps of 56 x 56 x 256, 28 x 28 x 512, 14 x 14 x 1024 and 7 x 7 x 2048; a block with stride 2
attends to 14 x 14 tokens, then pools. BoTNet-S1 has stride 1 there: 14 x 14 x 2048.

Cost: 3.291 G multiply-adds for `botnet26t_256` at 256; timm's computes 6 M more, the offsets between tokens that do
not exist.

Same as timm's code: shortcuts are projected by a strided convolution; the heads share the position tables.
Differs from timm's code: any H x W is accepted. Tables are resized for another grid, and a side that the stride does
not divide is rounded up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hexavit.architecture import Architecture, Branch, Column, Part, Pattern, Stage
from hexavit.models.botnet.weights import WEIGHTS
from hexavit.models.registry import Family, Published

PAPER = "https://arxiv.org/abs/2101.11605"
_DIMS = (256, 512, 1024, 2048)


def _botnet(
    name: str,
    depths: Sequence[int],
    attention_from: Sequence[int],
    *,
    stem: dict[str, Any],
    dims: Sequence[int] = _DIMS,
    last_stride: int = 2,
    ratio: float = 0.25,
    scaled: bool = True,
    img_size: int = 224,
) -> Architecture:
    """A BoTNet.

    Args:
        name: of the model.
        depths: number of blocks of each stage.
        attention_from: for each stage, the block from which on its blocks have attention.
        stem: options of the stem.
        dims: width of each stage.
        last_stride: stride of the last stage.
        ratio: width inside the bottlenecks.
        scaled: whether the queries that read the positions are scaled.
        img_size: side of the images.
    """
    position = Part("decomposed_relative", **({"scaled": True} if scaled else {}))
    stages = []
    for i, (dim, depth, first) in enumerate(zip(dims, depths, attention_from, strict=True)):
        stride = {} if i == 0 else {"stride": last_stride if i == len(dims) - 1 else 2}
        inside = {} if ratio == 0.25 else {"ratio": ratio}
        blocks = [
            (Part("bottleneck", heads=4, **inside, **more), position)
            if k >= first
            else (Part("conv_bottleneck", **inside, **more), Part("none"))
            for k, more in ((k, {} if k else stride) for k in range(depth))
        ]
        stages.append(
            Stage(
                dim,
                depth,
                tokens=Part("keep") if i else Part("conv_stem", **stem, last_kernel=None),
                attention=_column([part for part, _ in blocks]),
                position=_column([part for _, part in blocks]),
                residual=Part("post_act"),
                block=(Branch("attention"),),
            )
        )
    return Architecture(
        name,
        tuple(stages),
        Part("pool", norm=False),
        img_size=(img_size, img_size),
        init="fan_out",
    )


def _column(parts: Sequence[Part]) -> Column:
    """Parts of a stage's blocks: the last is the rule, those that differ are exceptions."""
    at = {k: part for k, part in enumerate(parts) if part != parts[-1]}
    return Pattern([parts[-1]], at) if at else parts[-1]


_STEM = {"channels": (64,), "kernels": (7,), "strides": (2,), "pool": True}
_TIERED = {"channels": (24, 32, 64), "kernels": (3, 3, 3), "strides": (2, 1, 1), "pool": True}
_NONE = 1000

_FAMILY = Family("botnet", PAPER)
_FAMILY.register(
    _botnet("botnet26t_256", (2, 2, 2, 2), (_NONE, _NONE, 1, 0), stem=_TIERED, scaled=False, img_size=256),
    "timm's small BoTNet",
    Published("timm, botnet26t_256", 256, 12.5, 3.3, 0.792),
    weights=WEIGHTS,
    preprocessing=WEIGHTS[0].preprocessing,
)
# name, depths, stride of the last stage, published millions of parameters
_VARIANTS = (
    ("botnet_50", (3, 4, 6, 3), 2, 20.8),
    ("botnet_s1_50", (3, 4, 6, 3), 1, 20.8),
    ("botnet_101", (3, 4, 23, 3), 2, None),
    ("botnet_152", (3, 8, 36, 3), 2, None),
)
for _name, _depths, _stride, _params in _VARIANTS:
    _FAMILY.register(
        _botnet(_name, _depths, (_NONE, _NONE, _NONE, 0), stem=_STEM, last_stride=_stride),
        f"BoTNet{'-S1' if _stride == 1 else ''}-{_name.split('_')[-1]}",
        *([Published("BoTNet, paper's table", 224, _params)] if _params else []),
    )
_FAMILY.register_nano(
    _botnet(
        "botnet_nano",
        (1, 2, 2),
        (_NONE, 1, 0),
        stem={"channels": (32,), "kernels": (3,), "strides": (1,), "pool": True},
        dims=(48, 96, 192),
        ratio=0.5,
        img_size=32,
    ),
    "BoTNet at 0.4 million",
)
