"""Swin Transformer V2: "Scaling Up Capacity and Resolution", Liu et al., CVPR 2022 (arXiv 2111.09883).

Origin: microsoft/Swin-Transformer (MIT), commit f82860bf. Names are timm's.

What is new against Swin: the norm follows each branch, and the norm of patch merging follows its linear layer.
Attention is the cosine with a learned temperature. A small network computes the position bias from log-spaced offsets,
so the weights fit any window. The two largest models also normalise the residual stream in every sixth block.

Shapes at 256: (B, 3, 256, 256) to grids of 64, 32, 16, 8 with widths C, 2 C, 4 C, 8 C, to (B, 1000).

Cost: 5.940 G multiply-adds for V2-T with windows of 8, 6.661 G with windows of 16.

Same as the authors' code at every size that it accepts; at other sizes maps are padded. `window12to16_192to256` was
pre-trained at 192 with windows of 12 and fine-tuned at 256 with windows of 16. The huge and the giant model are in the
paper only; no code and no weights were released. Widths, depths and parameters are from its table; heads are 32 wide
(44 in the huge model, since the width 352 must be divisible).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hexavit.architecture import Architecture, Part, Pattern
from hexavit.models.registry import Family, Published
from hexavit.models.swin import weights as swin_weights
from hexavit.models.swin.variants import swin_stages, window_pair

PAPER = "https://arxiv.org/abs/2111.09883"
_README = "microsoft/Swin-Transformer, README.md"
_TABLE = "Swin V2, paper"


def _swin_v2(
    name: str,
    dim: int,
    depths: Sequence[int],
    heads: int,
    window: int,
    img_size: int,
    *,
    pretrained: Sequence[int] = (0, 0, 0, 0),
    drop_path: float = 0.0,
    extra_norms: bool = False,
) -> Architecture:
    """Swin's stages with V2's parts. `pretrained` is the window of each stage in pre-training, or 0."""
    plain, normed = Part("res_post_norm"), Part("res_post_norm", extra_norm=True)
    widths = [heads * 2**i for i in range(len(depths))]
    stages = swin_stages(
        dim,
        depths,
        widths,
        drop_path=drop_path,
        residual=Pattern([plain] * 5 + [normed]) if extra_norms else plain,
    )
    return Architecture(
        name,
        tuple(
            replace(
                stage,
                tokens=Part("patch_merging", norm="after") if i else stage.tokens,
                position=Part("continuous_bias", **({"pretrained_window": pretrained[i]} if pretrained[i] else {})),
                attention=window_pair(heads=widths[i], window=window, cosine=True, key_bias=False),
            )
            for i, stage in enumerate(stages)
        ),
        Part("pool"),
        img_size=(img_size, img_size),
        norm_eps=1e-5,
    )


_T, _S = (2, 2, 6, 2), (2, 2, 18, 2)
_AT_192 = (12, 12, 12, 6)
_22K = "ImageNet-22k"

# name, C, depths, heads of the first stage, window, size, pretrained windows, drop path, published M, G and top-1
_VARIANTS: tuple[
    tuple[str, int, tuple[int, ...], int, int, int, tuple[int, ...], float, tuple[float, float, float] | None], ...
] = (
    ("swinv2_tiny_window8_256", 96, _T, 3, 8, 256, (), 0.2, (28, 5.9, 0.818)),
    ("swinv2_tiny_window16_256", 96, _T, 3, 16, 256, (), 0.2, (28, 6.6, 0.828)),
    ("swinv2_small_window8_256", 96, _S, 3, 8, 256, (), 0.3, (50, 11.5, 0.837)),
    ("swinv2_small_window16_256", 96, _S, 3, 16, 256, (), 0.3, (50, 12.6, 0.841)),
    ("swinv2_base_window8_256", 128, _S, 4, 8, 256, (), 0.5, (88, 20.3, 0.842)),
    ("swinv2_base_window16_256", 128, _S, 4, 16, 256, (), 0.5, (88, 21.8, 0.846)),
    ("swinv2_base_window12_192", 128, _S, 4, 12, 192, (), 0.2, None),
    ("swinv2_base_window12to16_192to256", 128, _S, 4, 16, 256, _AT_192, 0.2, (88, 21.8, 0.862)),
    ("swinv2_base_window12to24_192to384", 128, _S, 4, 24, 384, _AT_192, 0.2, (88, 54.7, 0.871)),
    ("swinv2_large_window12_192", 192, _S, 6, 12, 192, (), 0.2, None),
    ("swinv2_large_window12to16_192to256", 192, _S, 6, 16, 256, _AT_192, 0.2, (197, 47.5, 0.869)),
    ("swinv2_large_window12to24_192to384", 192, _S, 6, 24, 384, _AT_192, 0.2, (197, 115.4, 0.876)),
)


def _summary(name: str, window: int, img_size: int) -> str:
    return f"Swin V2-{name.split('_')[1][0].upper()}, windows of {window} at {img_size}"


_FAMILY = Family("swin_v2", PAPER)
for _name, _dim, _depths, _heads, _window, _size, _pretrained, _drop, _figures in _VARIANTS:
    _data = _22K if _pretrained else "ImageNet-1k"
    _FAMILY.register(
        _swin_v2(_name, _dim, _depths, _heads, _window, _size, pretrained=_pretrained or (0,) * 4, drop_path=_drop),
        _summary(_name, _window, _size),
        *([Published(_README, _size, *_figures, _data)] if _figures else []),
        weights=swin_weights.weights(_name),
        preprocessing=swin_weights.preprocessing(_size),
    )

for _name, _dim, _depths, _heads, _params in (
    ("swinv2_huge_window12_192", 352, _S, 8, 658),
    ("swinv2_giant_window12_192", 512, (2, 2, 42, 4), 16, 3000),
):
    _FAMILY.register(
        _swin_v2(_name, _dim, _depths, _heads, 12, 192, extra_norms=True),
        _summary(_name, 12, 192),
        Published(_TABLE, 192, _params, trained_on=_22K),
    )
_FAMILY.register_nano(
    _swin_v2("swin_v2_nano", 32, (2, 2, 2), 1, 3, 32, pretrained=(2, 2, 2), drop_path=0.1).override(
        {"stages.2.residual": "res_post_norm(extra_norm=true)"}
    ),
    "Swin V2 at 0.7 million",
)
