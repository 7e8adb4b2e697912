"""PS-ViT: "Vision Transformer with Progressive Sampling", Yue et al., ICCV 2021 (arXiv 2108.01684).

Origin: yuexy/PS-ViT (MIT), commit a63a397. Names are those of its builder functions; B/10 is from its README.

What is new against ViT: tokens are sampled from a convolutional map at points. Each of four rounds is one block, whose
output moves the points of the next round. The class token enters behind the rounds.

Shapes at 224: the map is 56 x 56; n x n points for a model named `..._n`, at any image size.

Cost: 1.565 G multiply-adds for Ti/14, 5.380 G for B/14, 8.741 G for B/18, at 224. The sampling itself is not counted.

Same as the authors' code: the offsets start at 0; a position is a linear of the point's coordinates divided by the
side of the map, added in each round; the attention scale is head_dim^-0.5 as in their evaluation. With
`pretrained=True` their code uses the whole width: `stages.*.attention.scale=dim`.
Differs from the authors' code: the sampling is plain PyTorch (theirs is a CUDA operation); any H x W is accepted
(theirs takes squares of the size at construction), and a map has ceil(H / 4) rows.
"""

from __future__ import annotations

from hexavit.architecture import Architecture, Part, Stage
from hexavit.models.registry import Family, Published
from hexavit.models.weights import Preprocessing, Weight, in1k_weight

PAPER = "https://arxiv.org/abs/2108.01684"
_README = "yuexy/PS-ViT, README.md"


def _ps_vit(
    name: str,
    dim: int,
    depth: int,
    heads: int,
    points: int,
    channels: int,
    *,
    rounds: int = 4,
    inner: int = 64,
    img_size: int = 224,
) -> Architecture:
    """`depth` counts all blocks, those of the rounds included."""

    def stage(depth: int, tokens: Part) -> Stage:
        return Stage(
            dim,
            depth,
            tokens=tokens,
            attention=Part("global", heads=heads, qkv_bias=False),
            feedforward=Part("mlp", ratio=3.0),
            drop_path=0.1,
        )

    sampling = Part("progressive_sampling", points=points)
    stages = (
        stage(0, Part("bottleneck_stem", inner=inner, channels=(channels,))),
        *(stage(1, sampling) for _ in range(rounds)),
        stage(depth - rounds, Part("keep")),
    )
    return Architecture(name, stages, Part("class_token"), img_size=(img_size, img_size), norm_eps=1e-5)


# name, width, blocks, heads, points a side, width between the bottlenecks, (parameters in millions, GFLOPs, top-1)
_VARIANTS: tuple[tuple[str, int, int, int, int, int, tuple[float, float, float] | None], ...] = (
    ("ti_14", 192, 12, 3, 14, 192, (4.8, 1.6, 0.756)),
    ("b_10", 384, 14, 6, 10, 256, (21.3, 3.1, 0.806)),
    ("b_14", 384, 14, 6, 14, 256, (21.3, 5.4, 0.817)),
    ("b_16", 384, 14, 6, 16, 256, None),
    ("b_18", 384, 14, 6, 18, 256, (21.3, 8.8, 0.823)),
)
# The part after # is the file name in the cache; the URL has none.
_LINK = "https://drive.usercontent.google.com/download?id={}&export=download&confirm=t#ps_vit_{}.pth"
_FILES = {"b_14": "1FAAOCbpgPKlSe3dWIzQLg8JK6okvZkC5", "b_18": "1KG4TdrfbNNdbNImCPCdSeQ5Y-gkDMlnr"}
_PREPROCESSING = Preprocessing(crop_pct=0.9)


def _weight(name: str, top1: float) -> Weight:
    return in1k_weight(
        _LINK.format(_FILES[name], name),
        top1,
        _README,
        "mit",
        preprocessing=_PREPROCESSING,
        note="the authors use `state_dict_ema` where a file has it: load_checkpoint(model, path, entry=...)",
    )


_FAMILY = Family("ps_vit", PAPER, _PREPROCESSING)
for _name, _dim, _depth, _heads, _points, _channels, _figures in _VARIANTS:
    _FAMILY.register(
        _ps_vit(f"ps_vit_{_name}", _dim, _depth, _heads, _points, _channels),
        f"PS-ViT-{_name.replace('_', '/').title()}",
        *([] if _figures is None else [Published(_README, 224, *_figures)]),
        weights=[_weight(_name, _figures[2])] if _figures is not None and _name in _FILES else (),
    )
_FAMILY.register_nano(_ps_vit("ps_vit_nano", 96, 6, 3, 4, 48, inner=24, img_size=32), "PS-ViT at 0.7 million")
