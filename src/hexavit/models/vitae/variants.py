"""ViTAE: "Vision Transformer Advanced by Exploring Intrinsic Inductive Bias", Xu et al., NeurIPS 2021
(arXiv 2106.03348).

Origin: ViTAE-Transformer/ViTAE-Transformer, commit aebf1d79, folder Image-Classification, model `vitae` (`vitaev2` is
another system). No licence covers its classification code: "for research purpose only".

What is new against ViT: reduction cells make the tokens, in three steps, from dilated convolutions and a narrow
Performer layer. In every block grouped convolutions stand in parallel to the attention.

Shapes at 224: 56 x 56, 28 x 28 and 14 x 14 tokens; the blocks are in the last stage. Base: as ViT with patches of 16.

Cost: 1.757 G multiply-adds for tiny, 6.181 G for small, 18.084 G for base, at 224.

Same as the authors' code: the third reduction cell is its convolutions alone; there is no position encoding and no
final norm; base has a class token that the classifier does not read.
Differs from the authors' code: any H x W is accepted (theirs takes squares); sides that a cell's stride does not divide
are padded.
"""

from __future__ import annotations

from collections.abc import Sequence

from hexavit.architecture import Architecture, Branch, Part, Stage
from hexavit.models.isotropic import isotropic
from hexavit.models.registry import Family, Published
from hexavit.models.weights import Preprocessing

PAPER = "https://arxiv.org/abs/2106.03348"
_PAPER = "arXiv 2106.03348, not re-read"
_TOP1 = "ViTAE-Transformer/ViTAE-Transformer, Image-Classification/README.md"
_README = f"{_TOP1} (top-1); {_PAPER} (the rest)"
_DILATIONS = ((1, 2, 3, 4), (1, 2, 3), (1, 2))


def _block(ratio: float, groups: int, layers: int = 3) -> tuple[Branch, ...]:
    """A normal cell: the convolutions read what the attention reads, before its norm."""
    module = Part("conv_module", ratio=ratio, groups=groups, **({} if layers == 3 else {"layers": layers}))
    beside = Branch("feedforward", module, Part("pre_norm", norm=None), parallel=True, name="conv")
    return Branch("attention"), beside, Branch("feedforward")


def _vitae(
    name: str,
    dims: Sequence[int],
    depth: int,
    heads: int,
    ratio: float,
    groups: int,
    *,
    embed_dim: int = 64,
    stride: int = 4,
    dilations: Sequence[tuple[int, ...]] = _DILATIONS,
    img_size: int = 224,
) -> Architecture:
    cells = [
        Part("reduction_cell", kernel=7, stride=stride, dilations=dilations[0], embed_dim=embed_dim, eps=1e-5),
        Part("reduction_cell", kernel=3, stride=2, dilations=dilations[1], embed_dim=embed_dim, eps=1e-5),
        Part("reduction_cell", kernel=3, stride=2, dilations=dilations[2], attend=False),
    ]
    stages = tuple(
        Stage(
            dim,
            depth if last else 0,
            tokens=cell,
            attention=Part("global", heads=heads if last else 1),
            feedforward=Part("mlp", ratio=ratio),
            block=_block(ratio, groups if last else 1),
            drop_path=0.1,
        )
        for dim, cell, last in zip(dims, cells, (False, False, True), strict=True)
    )
    return Architecture(name, stages, Part("pool", norm=False), img_size=(img_size, img_size))


# name, widths, blocks, heads, ratio, groups, (source, millions of parameters, GMACs, top-1)
_VARIANTS = (
    ("tiny", (64, 64, 256), 7, 4, 2.0, 64, (_README, 4.8, 1.5, 0.753)),
    ("6m", (64, 64, 256), 10, 4, 2.0, 64, (_README, 6.5, 2.0, 0.779)),
    ("13m", (64, 64, 320), 11, 5, 2.0, 64, (_PAPER, 13.2, 3.3, 0.810)),
    ("small", (96, 192, 384), 14, 6, 3.0, 96, (_README, 23.6, 5.6, 0.820)),
)

_FAMILY = Family("vitae", PAPER, Preprocessing(crop_pct=0.9))
for _name, _dims, _depth, _heads, _ratio, _groups, _figures in _VARIANTS:
    _FAMILY.register(
        _vitae(f"vitae_{_name}", _dims, _depth, _heads, _ratio, _groups),
        f"ViTAE-{_name.upper() if _name[0].isdigit() else _name[0].upper()}",
        Published(_figures[0], 224, *_figures[1:]),
    )
_FAMILY.register(
    isotropic(
        "vitae_base",
        768,
        12,
        12,
        head=Part("class_token", mean=True),
        block=_block(4.0, 192, 2),
        drop_path=0.1,
    ),
    "ViTAE-B, isotropic, pre-trained as a masked autoencoder",
    Published(_TOP1, 224, None, None, 0.838),
)
_FAMILY.register_nano(
    _vitae(
        "vitae_nano",
        (32, 48, 96),
        3,
        3,
        2.0,
        24,
        embed_dim=16,
        stride=2,
        dilations=((1, 2), (1, 2), (1, 2)),
        img_size=32,
    ),
    "ViTAE at half a million",
)
