"""T2T-ViT: "Tokens-to-Token ViT: Training Vision Transformers from Scratch on ImageNet", Yuan et al., ICCV 2021
(arXiv 2101.11986).

Origin: yitu-opensource/T2T-ViT (Clear BSD), commit 0f63dc9. Names are those of its builder functions, in lower case.

What is new against ViT: three overlapping unfolds make the tokens. A narrow Performer layer (transformer layer in
`t2t_vit_t_*`) follows each of the first two. The trunk is narrower, and its position table is a fixed sinusoid.

Shapes at 224: as ViT with patches of 16.

Cost: 1.147 G multiply-adds for T2T-ViT-7, 4.783 G for T2T-ViT-14, 13.662 G for T2T-ViT-24.

Same as the authors' code: the attention scale is head_dim^-0.5, as in the loading code of its README. With
`pretrained=True` their code uses the whole width instead: `stages.0.attention.scale=dim`.
Differs from the authors' code: any H x W is accepted; theirs accepts squares.
"""

from __future__ import annotations

from hexavit.architecture import Architecture, Part
from hexavit.models.isotropic import isotropic
from hexavit.models.registry import Family, Published
from hexavit.models.weights import Preprocessing, Weight, in1k_weight

PAPER = "https://arxiv.org/abs/2101.11986"
_README = "yitu-opensource/T2T-ViT, README.md"

# name, width, depth, heads, ratio, kind of tokens, top-1
_VARIANTS: tuple[tuple[str, int, int, int, float, str, float | None], ...] = (
    ("t2t_vit_7", 256, 7, 4, 2.0, "performer", 0.717),
    ("t2t_vit_10", 256, 10, 4, 2.0, "performer", 0.752),
    ("t2t_vit_12", 256, 12, 4, 2.0, "performer", 0.765),
    ("t2t_vit_14", 384, 14, 6, 3.0, "performer", 0.815),
    ("t2t_vit_19", 448, 19, 7, 3.0, "performer", 0.819),
    ("t2t_vit_24", 512, 24, 8, 3.0, "performer", 0.823),
    ("t2t_vit_t_14", 384, 14, 6, 3.0, "transformer", 0.817),
    ("t2t_vit_t_19", 448, 19, 7, 3.0, "transformer", 0.824),
    ("t2t_vit_t_24", 512, 24, 8, 3.0, "transformer", 0.826),
    ("t2t_vit_14_resnext", 384, 14, 32, 3.0, "performer", None),
    ("t2t_vit_14_wide", 768, 4, 12, 3.0, "performer", None),
)


def _t2t(
    name: str, dim: int, depth: int, heads: int, ratio: float, kind: str, token_dim: int = 64, img_size: int = 224
) -> Architecture:
    return isotropic(
        name,
        dim,
        depth,
        heads,
        tokens=Part("tokens_to_token", kind=kind, token_dim=token_dim),
        position=Part("sine_cosine"),
        attention=Part("global", heads=heads, qkv_bias=False),
        feedforward=Part("mlp", ratio=ratio),
        drop_path=0.1,
        img_size=img_size,
        norm_eps=1e-5,
    )


_AT_384 = {"t2t_vit_14": 0.833}
"""Top-1 after training at 384. The model is the same: its position table is computed for any size."""

_COSTS = {
    "t2t_vit_7": (4.3, 1.1),
    "t2t_vit_10": (5.9, 1.5),
    "t2t_vit_12": (6.9, 1.8),
    "t2t_vit_14": (21.5, 4.8),
    "t2t_vit_19": (39.2, 8.5),
    "t2t_vit_24": (64.1, 13.8),
    "t2t_vit_t_14": (21.5, 6.1),
    "t2t_vit_t_19": (39.2, 9.8),
    "t2t_vit_t_24": (64.1, 15.0),
}
"""Millions of parameters and GMACs at 224, as published in the README."""


def _published(name: str, size: int, top1: float) -> Published:
    params, gmacs = _COSTS[name] if size == 224 else (None, None)
    return Published(_README, size, params, gmacs, top1)


def _weight(name: str, img_size: int, top1: float) -> Weight:
    file = f"{100 * top1:.1f}_T2T_ViT{'t' if '_t_' in name else ''}_{name.rpartition('_')[2]}.pth.tar"
    return in1k_weight(
        f"https://github.com/yitu-opensource/T2T-ViT/releases/download/main/{file}",
        top1,
        _README,
        "bsd-3-clause-clear",
        tag="in1k" if img_size == 224 else f"in1k_{img_size}",
        img_size=img_size,
        preprocessing=Preprocessing(crop_pct=0.9),
        note="the authors use `state_dict_ema` where a file has it: load_checkpoint(model, path, entry=...)",
    )


_FAMILY = Family("t2t_vit", PAPER)
for _name, _dim, _depth, _heads, _ratio, _kind, _top1 in _VARIANTS:
    _files = [(size, top1) for size, top1 in ((224, _top1), (384, _AT_384.get(_name))) if top1]
    _FAMILY.register(
        _t2t(_name, _dim, _depth, _heads, _ratio, _kind),
        f"T2T-ViT{_name.removeprefix('t2t_vit').replace('_', '-')}",
        *(_published(_name, size, top1) for size, top1 in _files),
        weights=[_weight(_name, size, top1) for size, top1 in _files],
        preprocessing=Preprocessing(crop_pct=0.9),
    )
_FAMILY.register(
    _t2t("t2t_vit_nano", 96, 4, 3, 2.0, "performer", token_dim=32, img_size=64),
    "T2T-ViT at half a million parameters, for 64 x 64 images (4 x 4 tokens) and quick studies",
)
