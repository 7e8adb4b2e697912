"""CvT: "Introducing Convolutions to Vision Transformers", Wu et al., ICCV 2021 (arXiv 2103.15808).

Origin: microsoft/CvT (MIT licence), commit f851e681. The second model is from lucidrains/vit-pytorch (MIT licence).

What is new against ViT: overlapping strided convolutions make the tokens of each of three stages. Queries, keys and
values pass a depth-wise convolution; keys and values have stride 2. There is no position encoding, and the class token
enters in the last stage only.

Shapes at 224: (B, 3, 224, 224) to grids of 56, 28, 14 with widths 64, 192, 384 (CvT-13, CvT-21), to (B, 1000).

Cost: 4.566 G multiply-adds for CvT-13, 7.178 G for CvT-21, 194.2 G for CvT-W24 at 384. `hexavit profile` prints the
cost of each part.

Same as the authors' code: the attention scale is C^-0.5 with the whole width C; quick GELU; padding 2 in the first
convolution; LayerNorm eps 1e-5; no norm between stages; drop path rises within the last stage only.
Differs from the authors' code: a batch of one keeps its batch axis; `method=linear` runs (it fails in their code).
"""

from __future__ import annotations

from collections.abc import Sequence

from hexavit.architecture import Architecture, Part, Stage
from hexavit.models.cvt import weights as cvt_weights
from hexavit.models.registry import Family, Published

PAPER = "https://arxiv.org/abs/2103.15808"
_README = "microsoft/CvT, README.md, at f851e681"
FIRST = Part("conv", kernel=7, stride=4, padding=2)
MLP = Part("mlp", act="quick_gelu")


def _cvt(
    name: str,
    dims: Sequence[int],
    heads: Sequence[int],
    depths: Sequence[int],
    drop_path: float,
    img_size: int = 224,
    first: Part = FIRST,
    feedforward: Part = MLP,
    init: str = "trunc_normal",
) -> Architecture:
    """CvT: the embedding `first`, then 3x3/2 in the other stages; drop path in the last stage only."""
    stages = tuple(
        Stage(
            dim=dim,
            depth=depth,
            tokens=Part("conv", kernel=3, stride=2, padding=1) if i else first,
            attention=Part("conv_projection", heads=head, stride_kv=2),
            feedforward=feedforward,
            drop_path=drop_path if i == len(dims) - 1 else 0.0,
            ramp="stage",
        )
        for i, (dim, head, depth) in enumerate(zip(dims, heads, depths, strict=True))
    )
    head, size = Part("class_token", enter=len(dims) - 1), (img_size, img_size)
    return Architecture(name, stages, head, img_size=size, norm_eps=1e-5, init=init)


def cvt_vit_pytorch(
    *,
    num_classes: int = 1000,
    s1_emb_dim: int = 64,
    s1_emb_kernel: int = 7,
    s1_emb_stride: int = 4,
    s1_proj_kernel: int = 3,
    s1_kv_proj_stride: int = 2,
    s1_heads: int = 1,
    s1_depth: int = 1,
    s1_mlp_mult: float = 4,
    s2_emb_dim: int = 192,
    s2_emb_kernel: int = 3,
    s2_emb_stride: int = 2,
    s2_proj_kernel: int = 3,
    s2_kv_proj_stride: int = 2,
    s2_heads: int = 3,
    s2_depth: int = 2,
    s2_mlp_mult: float = 4,
    s3_emb_dim: int = 384,
    s3_emb_kernel: int = 3,
    s3_emb_stride: int = 2,
    s3_proj_kernel: int = 3,
    s3_kv_proj_stride: int = 2,
    s3_heads: int = 6,
    s3_depth: int = 10,
    s3_mlp_mult: float = 4,
    dropout: float = 0.0,
    channels: int = 3,
    name: str = "cvt_vit_pytorch",
) -> Architecture:
    """The architecture of vit-pytorch's CvT.

    The arguments are those of `vit_pytorch.cvt.CvT`. The default of `s3_heads` is 6; it was 4 in older versions of that
    package.

    Differs from the authors' code: keys and values share one depth-wise convolution; heads are 64 wide for any width
    and the scale is 64^-0.5; q, k and v have no bias; each embedding pads kernel // 2 (the first 3, not 2); GELU is
    exact; there is no final norm, no class token (average pooling) and no drop path.
    """
    rows = (
        (s1_emb_dim, s1_emb_kernel, s1_emb_stride, s1_proj_kernel, s1_kv_proj_stride, s1_heads, s1_depth, s1_mlp_mult),
        (s2_emb_dim, s2_emb_kernel, s2_emb_stride, s2_proj_kernel, s2_kv_proj_stride, s2_heads, s2_depth, s2_mlp_mult),
        (s3_emb_dim, s3_emb_kernel, s3_emb_stride, s3_proj_kernel, s3_kv_proj_stride, s3_heads, s3_depth, s3_mlp_mult),
    )
    stages = tuple(
        Stage(
            dim=dim,
            depth=depth,
            tokens=Part("conv", kernel=emb_kernel, stride=emb_stride, padding=emb_kernel // 2),
            attention=Part(
                "conv_projection",
                heads=heads,
                head_dim=64,
                scale="head_dim",
                kernel=kernel,
                stride_kv=kv_stride,
                padding_q=kernel // 2,
                padding_kv=kernel // 2,
                share_kv=True,
                qkv_bias=False,
                **({"attn_drop": dropout, "proj_drop": dropout} if dropout else {}),
            ),
            feedforward=Part("mlp", ratio=float(mult), **({"drop": dropout} if dropout else {})),
        )
        for dim, emb_kernel, emb_stride, kernel, kv_stride, heads, depth, mult in rows
    )
    head = Part("pool", norm=False)
    return Architecture(name, stages, head, in_chans=channels, num_classes=num_classes, norm_eps=1e-5, init="default")


_FAMILY = Family("cvt", PAPER)
_FAMILY.register_nano(_cvt("cvt_nano", (32, 64, 128), (1, 2, 4), (1, 1, 2), 0.0, img_size=32), "CvT at half a million")
_FAMILY.register_nano(
    _cvt(
        "cvt_fine_nano",
        *((32, 64, 128), (1, 2, 4), (1, 2, 3), 0.0, 32),
        Part("conv_stem", channels=(32, 32), kernels=(3, 3), strides=(1, 2), last_kernel=3, last_padding=1),
        Part("conv_mlp"),
        "default",
    ),
    "CvT with early convolutions, grids of 16, 8 and 4 and LocalViT's feedforward, at one million",
)
_FAMILY.register(
    _cvt("cvt_13", (64, 192, 384), (1, 3, 6), (1, 2, 10), 0.1),
    "CvT-13",
    Published(_README, 224, 20, 4.5, 0.816),
    Published(_README, 384, 20, 16.3, 0.830),
    Published(_README, 384, 20, 16.3, 0.833, "ImageNet-22k"),
    weights=cvt_weights.CVT_13,
)
_FAMILY.register(cvt_vit_pytorch(name="cvt_13_vit_pytorch"), "vit-pytorch's CvT at its default sizes")
_FAMILY.register(
    _cvt("cvt_21", (64, 192, 384), (1, 3, 6), (1, 4, 16), 0.1),
    "CvT-21",
    Published(_README, 224, 32, 7.1, 0.825),
    Published(_README, 384, 32, 24.9, 0.833),
    Published(_README, 384, 32, 24.9, 0.849, "ImageNet-22k"),
    weights=cvt_weights.CVT_21,
)
_FAMILY.register(
    _cvt("cvt_w24", (192, 768, 1024), (3, 12, 16), (2, 2, 20), 0.3, img_size=384),
    "CvT-W24",
    Published(_README, 384, 277, 193.2, 0.876, "ImageNet-22k"),
    weights=cvt_weights.CVT_W24,
    preprocessing=cvt_weights.SQUASH,
)
