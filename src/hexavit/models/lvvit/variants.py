"""LV-ViT: "All Tokens Matter: Token Labeling for Training Better Vision Transformers", Jiang et al., NeurIPS 2021
(arXiv 2104.10858).

Origin: zihangJiang/TokenLabeling (Apache-2.0), commit 9dbfd59. Names are those of its builder functions, followed by
the image size, which sets the size of the position table.

What is new against ViT: a second linear layer classifies every patch token. The stem has three convolutions. Each
branch is divided by `skip_lam`.

Shapes at 224: as ViT. In training the model returns the pair (class logits (B, K), token logits (B, N, K)).

Cost: 2.868 G multiply-adds for T at 224, 6.551 G for S at 224, 155.116 G for L at 448.

Same as the authors' code: in evaluation the output is class + 0.5 max over the tokens. MixToken is applied in training
only.
"""

from __future__ import annotations

from hexavit.architecture import Architecture, Part
from hexavit.models.isotropic import isotropic
from hexavit.models.registry import Family, Published
from hexavit.models.weights import Preprocessing, in1k_weight

PAPER = "https://arxiv.org/abs/2104.10858"
_README = "zihangJiang/TokenLabeling, README.md"

# name, width, depth, heads, skip_lam, stem width, drop path, crop, {image size: (millions of parameters, top-1)}
_VARIANTS: tuple[tuple[str, int, int, int, float, int, float, float, dict[int, tuple[float, float]]], ...] = (
    ("t", 240, 12, 4, 1.0, 64, 0.1, 0.9, {224: (8.53, 0.791)}),
    ("s", 384, 16, 6, 2.0, 64, 0.1, 0.9, {224: (26.15, 0.833), 384: (26.30, 0.844)}),
    ("m", 512, 20, 8, 2.0, 64, 0.2, 1.0, {224: (55.83, 0.840), 384: (56.03, 0.854), 448: (56.13, 0.855)}),
    ("l", 768, 24, 12, 3.0, 128, 0.3, 1.0, {448: (150.47, 0.862), 512: (150.66, 0.864)}),
)


def _lvvit(
    name: str,
    dim: int,
    depth: int,
    heads: int,
    skip_lam: float,
    stem: int,
    drop_path: float,
    *,
    img_size: int,
    patch: int = 8,
) -> Architecture:
    return isotropic(
        name,
        dim,
        depth,
        heads,
        tokens=Part(
            "conv_stem",
            channels=(stem,) * 3,
            kernels=(7, 3, 3),
            strides=(2, 1, 1),
            last_kernel=patch,
            last_stride=patch,
        ),
        attention=Part("global", heads=heads, qkv_bias=False),
        feedforward=Part("mlp", ratio=3.0),
        residual=Part("pre_norm", skip_lam=skip_lam),
        drop_path=drop_path,
        head="token_labels",
        img_size=img_size,
        norm_eps=1e-5,
    )


_FILES = {
    ("t", 224): "v0.2.0/lvvit_t.pth",
    ("s", 224): "1.0/lvvit_s-26M-224-83.3.pth.tar",
    ("s", 384): "1.0/lvvit_s-26M-384-84.4.pth.tar",
    ("m", 224): "1.0/lvvit_m-56M-224-84.0.pth.tar",
    ("m", 384): "1.0/lvvit_m-56M-384-85.4.pth.tar",
    ("m", 448): "1.1/lvvit_m-56M-448-85.5.pth.tar",
    ("l", 448): "1.0/lvvit_l-150M-448-86.2.pth.tar",
    ("l", 512): "1.0/lvvit_l-150M-512-86.4.pth.tar",
}


_RELEASES = "https://github.com/zihangJiang/TokenLabeling/releases/download"
_FAMILY = Family("lvvit", PAPER)
for _name, _dim, _depth, _heads, _lam, _stem, _drop, _crop, _results in _VARIANTS:
    for _img_size, (_params, _top1) in _results.items():
        _preprocessing = Preprocessing(crop_pct=_crop if _img_size == 224 else 1.0)
        _place = f"{_RELEASES}/{_FILES[_name, _img_size]}"
        _options = {"img_size": _img_size, "preprocessing": _preprocessing}
        _FAMILY.register(
            _lvvit(f"lvvit_{_name}_{_img_size}", _dim, _depth, _heads, _lam, _stem, _drop, img_size=_img_size),
            f"LV-ViT-{_name.upper()}",
            Published(_README, _img_size, _params, top1=_top1),
            weights=[in1k_weight(_place, _top1, _README, "apache-2.0", **_options)],
            preprocessing=_preprocessing,
        )
_FAMILY.register_nano(_lvvit("lvvit_nano", 96, 4, 3, 2.0, 16, 0.1, patch=4, img_size=32), "LV-ViT at half a million")
