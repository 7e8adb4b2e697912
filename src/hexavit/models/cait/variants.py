"""CaiT: "Going deeper with Image Transformers", Touvron et al., ICCV 2021 (arXiv 2103.17239).

Origin: facebookresearch/deit, cait_models.py (Apache-2.0), commit 7e160fe. Names are timm's.

What is new against ViT: a learned vector scales every branch (layer scale). Linear layers mix the heads before and
after the softmax (talking heads). The class token enters after the trunk, in two blocks that update it alone.

Shapes at 224: (B, 3, 224, 224) to (B, 196, C) in the trunk, to (B, 1 + 196, C), to (B, 1000).

Cost: 2.523 G multiply-adds for XXS24 at 224, 9.327 G for S24 at 224, 329.1 G for M48 at 448.

Same as the authors' code and timm: the position table has no row for the class token; drop path is constant over the
trunk and 0 in the class blocks.
"""

from __future__ import annotations

from hexavit.architecture import Architecture, Part, Stage
from hexavit.models.isotropic import vit_stage
from hexavit.models.registry import Family, Published
from hexavit.models.weights import Preprocessing, Weight, in1k_weight

PAPER = "https://arxiv.org/abs/2103.17239"
_PAPER = "CaiT, paper's tables, trained without distillation (as recalled)"
_README = "facebookresearch/deit, README_cait.md (distilled)"

# name, width, trunk depth, heads, layer scale, drop path, {image size: top-1 distilled}, top-1 at 224 alone
_VARIANTS: tuple[tuple[str, int, int, int, float, float, dict[int, float], float | None], ...] = (
    ("xxs24", 192, 24, 4, 1e-5, 0.05, {224: 0.784, 384: 0.809}, 0.776),
    ("xxs36", 192, 36, 4, 1e-5, 0.1, {224: 0.797, 384: 0.822}, 0.791),
    ("xs24", 288, 24, 6, 1e-5, 0.05, {384: 0.841}, 0.818),
    ("s24", 384, 24, 8, 1e-5, 0.1, {224: 0.835, 384: 0.851}, 0.827),
    ("s36", 384, 36, 8, 1e-6, 0.2, {384: 0.854}, 0.833),
    ("m36", 768, 36, 16, 1e-6, 0.3, {384: 0.861}, 0.838),
    ("m48", 768, 48, 16, 1e-6, 0.3, {448: 0.865}, None),
)


_GFLOPS = {"s24_224": 9.4, "xs24_384": 19.3, "s24_384": 32.2, "s36_384": 48.0, "m36_384": 173.3, "m48_448": 329.6}
"""GFLOPs as published in the README."""


def _cait(
    name: str,
    dim: int,
    depth: int,
    heads: int,
    layer_scale: float,
    drop_path: float,
    img_size: int,
    patch: int = 16,
) -> Architecture:
    residual = {"layer_scale": layer_scale}
    trunk = vit_stage(
        dim,
        depth,
        heads,
        patch=patch,
        attention=Part("talking_heads", heads=heads),
        residual=Part("pre_norm", **residual),
        drop_path=drop_path,
        ramp="constant",
    )
    class_blocks = Stage(
        dim=dim,
        depth=2,
        tokens=Part("keep"),
        attention=Part("class_attention", heads=heads),
        residual=Part("extra_only", **residual),
    )
    return Architecture(name, (trunk, class_blocks), Part("class_token"), img_size=(img_size, img_size))


_FAMILY = Family("cait", PAPER)
_CROP = Preprocessing(crop_pct=1.0)
for _name, _dim, _depth, _heads, _scale, _drop, _distilled, _alone in _VARIANTS:
    for _img_size in sorted({*_distilled, *((224,) if _alone else ())}):
        _full = f"cait_{_name}_{_img_size}"
        _figures: list[Published] = []
        _weights: list[Weight] = []
        if _img_size in _distilled:
            _top1, _place = _distilled[_img_size], f"timm/{_full}.fb_dist_in1k"
            _figures.append(Published(_README, _img_size, gflops=_GFLOPS.get(f"{_name}_{_img_size}"), top1=_top1))
            _options = {"tag": "fb_dist_in1k", "img_size": _img_size, "preprocessing": _CROP}
            _weights.append(in1k_weight(_place, _top1, _README, "apache-2.0", **_options))
        if _alone and _img_size == 224:
            _figures.append(Published(_PAPER, 224, top1=_alone))
        _FAMILY.register(
            _cait(_full, _dim, _depth, _heads, _scale, _drop, _img_size),
            f"CaiT-{_name.upper()}",
            *_figures,
            weights=_weights,
            preprocessing=_CROP,
        )
_FAMILY.register_nano(_cait("cait_nano", 96, 4, 3, 0.1, 0.05, 32, patch=8), "CaiT at 0.8 million")
