"""TNT: "Transformer in Transformer", Han et al., NeurIPS 2021 (arXiv 2103.00112).

Origin: huawei-noah/Efficient-AI-Backbones, tnt_pytorch (Apache-2.0), commit f90e129. Names are timm's.

What is new against DeiT: each patch of 16 x 16 pixels has 16 words of width c besides its token. In every block, an
inner transformer mixes the words of each patch, and a projection of all of them is added to the patch's token before
the attention over the patches.

Shapes at 224: (B, 3, 224, 224) to tokens (B, 1 + 196, C) and words (B, 196, 16, c), to (B, 1000).

Cost: 1.404, 5.217 and 14.049 G multiply-adds for Ti, S and B at 224.

Same as the authors' code: q, k and v have no bias; the words' table is the same for every patch; the words are added
without stochastic depth, and their own branches are dropped patch by patch.
Differs from the authors' code: any H x W is accepted, with the patch table resized and rows that fill no patch left
out; their images have one size.
"""

from __future__ import annotations

from typing import Any

from hexavit.architecture import Architecture, Branch, Part
from hexavit.models.isotropic import isotropic
from hexavit.models.registry import Family, Published
from hexavit.models.tnt.weights import HALF, authors_weight, hub_weight

PAPER = "https://arxiv.org/abs/2103.00112"
_README = "huawei-noah/Efficient-AI-Backbones, tnt_pytorch/README.md"


def with_words(heads: int, **options: Any) -> tuple[Branch, ...]:
    """The branches of TNT's block. `options` are those of `inner_transformer`."""
    inner = Part("inner_transformer", heads=heads, **options)
    bare = Part("pre_norm", norm=None, stochastic_depth=False)
    return Branch("feedforward", inner, bare, name="words"), Branch("attention"), Branch("feedforward")


def tnt(
    name: str,
    dim: int,
    heads: int,
    word_dim: int,
    word_heads: int,
    *,
    depth: int = 12,
    first_release: bool = False,
    tokens: dict[str, Any] | None = None,
    **changes: Any,
) -> Architecture:
    """A TNT.

    Args:
        name: of the model.
        dim: width of the patches' tokens.
        heads: over the patches.
        word_dim: width of the words.
        word_heads: in a patch.
        depth: number of blocks.
        first_release: whether the convolution crosses the borders of patches and each word has a norm of its own.
        tokens: other options of the part `words`.
        **changes: other fields of the stage and of the architecture.
    """
    form = {"whole": True} if first_release else {"unused": True}
    defaults = {
        "attention": Part("global", heads=heads, qkv_bias=False),
        "position": Part("learned", resize="bicubic"),
        "drop_path": 0.1,
        "norm_eps": 1e-5,
    }
    return isotropic(
        name,
        dim,
        depth,
        heads,
        tokens=Part("words", word_dim=word_dim, **form, **(tokens or {})),
        block=with_words(word_heads, **({"each": True} if first_release else {})),
        **{**defaults, **changes},
    )


# name, width, heads, width of the words, their heads, source, published (millions of parameters, GFLOPs, top-1)
_VARIANTS = (
    ("tnt_ti_patch16_224", 192, 3, 12, 2, "TNT, paper's table", (6.1, 1.4, 0.739)),
    ("tnt_s_patch16_224", 384, 6, 24, 4, _README, (23.8, 5.2, 0.815)),
    ("tnt_b_patch16_224", 640, 10, 40, 4, _README, (65.6, 14.1, 0.829)),
)
_FILES = {"tnt_s_patch16_224": "tnt_s_81.5.pth.tar", "tnt_b_patch16_224": "tnt_b_82.9.pth.tar"}

_FAMILY = Family("tnt", PAPER, HALF)
for _name, _dim, _heads, _word_dim, _word_heads, _source, _figures in _VARIANTS:
    _FAMILY.register(
        tnt(_name, _dim, _heads, _word_dim, _word_heads),
        f"TNT-{_name.split('_')[1].capitalize()}",
        Published(_source, 224, *_figures),
        weights=[hub_weight(_name, _figures[-1], _README), authors_weight(_FILES[_name], _figures[-1], _README)]
        if _name in _FILES
        else [],
    )
_FAMILY.register(
    tnt("tnt_s_legacy_patch16_224", 384, 6, 24, 4, first_release=True),
    "TNT-S as first released",
    Published("timm, tnt_s_legacy_patch16_224", 224, 23.8, 5.2, 0.815),
    weights=[hub_weight("tnt_s_legacy_patch16_224", 0.815, "timm, tnt_s_legacy_patch16_224")],
)
_FAMILY.register_nano(
    tnt(
        "tnt_nano",
        96,
        3,
        12,
        2,
        depth=4,
        tokens={"patch": 8, "stride": 4},
        drop_path=0.0,
        feedforward=Part("excited_mlp"),
        img_size=32,
    ),
    "TNT with squeeze-excite at half a million",
)
