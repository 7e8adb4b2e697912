"""Glance-and-Gaze: "Glance-and-Gaze Vision Transformer", Yu et al., NeurIPS 2021 (arXiv 2106.02277).

From the paper alone: the authors published no code (yucornetto/GG-Transformer holds a README and a licence) and no
weights, so there is no output to compare with. Names are the paper's.

What is new against Swin: in every block a window has tokens that are H / 7 rows and W / 7 columns apart, which span the
map (glance); a depth-wise convolution of the values of the whole map is added to what the windows give (gaze). The
partition is that of the spread windows of the Shuffle Transformer.

Shapes at 224: (B, 3, 224, 224) to grids of 56, 28, 14, 7 with widths C, 2 C, 4 C, 8 C, to (B, 1000).

Cost: 4.552 G multiply-adds for GG-T, 8.810 G for GG-S.

The paper does not say, and it is assumed here: the relative position bias is Swin's; the gaze is added before the
output linear; its convolution has neither bias nor norm nor activation. Its kernels are 9, 5, 3 and 3, the distance of
the tokens of a window at 224 plus 1, made odd.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hexavit.architecture import Architecture, Branch, Part
from hexavit.models.registry import Family, Published
from hexavit.models.swin.variants import swin_stages

PAPER = "https://arxiv.org/abs/2106.02277"
_TABLE = "the paper's table for ImageNet; there is no code by its authors"


def _gg(
    name: str,
    dim: int,
    depths: Sequence[int],
    heads: Sequence[int],
    drop_path: float,
    *,
    window: int = 7,
    kernels: Sequence[int] = (9, 5, 3, 3),
    img_size: int = 224,
) -> Architecture:
    """Swin's stages, in which every window is spread and the values are convolved with `kernels`."""
    stages = swin_stages(dim, depths, heads, window=window, drop_path=drop_path)
    changed = tuple(
        replace(
            stage,
            attention=Part("window", heads=head, window=window, spread=True),
            block=(
                Branch("attention", position=Part("lepe", kernel=kernel, reach="map", bias=False)),
                Branch("feedforward"),
            ),
        )
        for stage, head, kernel in zip(stages, heads, kernels, strict=True)
    )
    return Architecture(name, changed, Part("pool"), img_size=(img_size, img_size), norm_eps=1e-5)


_FAMILY = Family("glance_and_gaze", PAPER)
for _size, _depths, _drop, _figures in (
    ("t", (2, 2, 6, 2), 0.2, (28, 4.5, 0.820)),
    ("s", (2, 2, 18, 2), 0.3, (50, 8.7, 0.834)),
):
    _FAMILY.register(
        _gg(f"gg_{_size}", 96, _depths, (3, 6, 12, 24), _drop),
        f"GG-{_size.upper()}, from the paper alone",
        Published(_TABLE, 224, *_figures),
    )
_FAMILY.register_nano(
    _gg("gg_nano", 32, (2, 2, 2), (1, 2, 4), 0.1, window=2, kernels=(5, 3, 3), img_size=32),
    "Glance-and-Gaze, from the paper alone, at 0.7 million",
)
