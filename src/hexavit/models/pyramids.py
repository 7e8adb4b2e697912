"""What the pyramids share: stages side by side, and how the authors of PVT and its successors name them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hexavit.architecture import Column, Part, Stage
from hexavit.models.layouts import As, Table
from hexavit.models.weights import Preprocessing, Weight

EPS = 1e-5
"""Of norms in embeddings and behind reductions, where those of blocks have 1e-6."""

SMALL: Mapping[str, Any] = {
    "dims": (32, 64, 96, 128),
    "depths": (1, 1, 2, 1),
    "drop_path": 0.0,
    "heads": (1, 2, 3, 4),
    "img_size": 32,
}
"""What the pyramids for small images and quick studies, `*_nano`, have in common."""
REDUCED_LESS = (4, 2, 2, 1)
"""Their reductions, where a strided convolution does them."""

ON_HUB = Preprocessing(crop_pct=0.9)
"""timm's, which is not the authors' (a crop of 0.875)."""


def pyramid(
    dims: Sequence[int], depths: Sequence[int], drop_path: float = 0.0, **columns: Sequence[Column]
) -> tuple[Stage, ...]:
    """Stages of these widths and depths; of each column named a part a stage."""
    return tuple(
        Stage(dim, depth, drop_path=drop_path, **dict(zip(columns, parts, strict=True)))
        for dim, depth, *parts in zip(dims, depths, *columns.values(), strict=True)
    )


def patches(first: int = 4, later: int = 2, count: int = 4) -> list[Part]:
    """Embeddings that do not overlap, each with norm: PVT's and Twins'."""
    return [Part("conv", kernel=k, stride=k, eps=EPS) for k in (first, *(later,) * (count - 1))]


def overlapping(count: int = 4) -> list[Part]:
    """Embeddings that overlap: 7x7/4, then 3x3/2, padded, each with norm: PVT v2's and P2T's."""
    windows = [(7, 4), *((3, 2),) * (count - 1)]
    return [Part("conv", kernel=k, stride=s, padding=k // 2, eps=EPS) for k, s in windows]


def reduced(heads: Sequence[int], sr_ratios: Sequence[int]) -> list[Part]:
    """Spatial-reduction attention by a strided convolution; a ratio of 1 is not named."""
    return [
        Part("spatial_reduction", heads=head, **({"sr_ratio": ratio} if ratio > 1 else {}), eps=EPS)
        for head, ratio in zip(heads, sr_ratios, strict=True)
    ]


def numbered(table: Mapping[str, str | As], count: int = 4) -> Table:
    """A table of one stage, with `<n>` for the authors' number from 1 and `<s>` for ours from 0, for every stage."""
    return {theirs.replace("<n>", str(s + 1)): _at(ours, s) for s in range(count) for theirs, ours in table.items()}


def _at(ours: str | As, s: int) -> str | As:
    return ours.replace("<s>", str(s)) if isinstance(ours, str) else As(ours.ours.replace("<s>", str(s)), ours.form)


def block(theirs: str, ours: str) -> dict[str, str]:
    """The rows of a PVT block: norms, attention with a strided reduction, MLP."""
    return {
        f"{theirs}.norm1.*": f"{ours}.attention_residual.norm.*",
        f"{theirs}.attn.q.*": f"{ours}.attention.q.*",
        f"{theirs}.attn.kv.*": f"{ours}.attention.kv.*",
        f"{theirs}.attn.sr.*": f"{ours}.attention.reduction.conv.*",
        f"{theirs}.attn.norm.*": f"{ours}.attention.norm.*",
        f"{theirs}.attn.proj.*": f"{ours}.attention.proj.*",
        f"{theirs}.norm2.*": f"{ours}.feedforward_residual.norm.*",
        f"{theirs}.mlp.fc1.*": f"{ours}.feedforward.fc1.*",
        f"{theirs}.mlp.fc2.*": f"{ours}.feedforward.fc2.*",
    }


def block_table(theirs: str, ours: str) -> Table:
    """`block`, to stand in a table."""
    return dict(block(theirs, ours).items())


AUTHORS_STAGE = {
    "patch_embed<n>.proj.*": "stages.<s>.tokens.conv.*",
    "patch_embed<n>.norm.*": "stages.<s>.tokens.norm.*",
    **block("block<n>.{}", "stages.<s>.blocks.{}"),
}
"""whai362/PVT's names of a stage, which P2T and LocalViT kept."""


def hub_weight(model: str, top1: float, source: str, *, code_license: str = "apache-2.0", note: str) -> Weight:
    """timm's copy of the authors' weights."""
    return Weight(
        tag="in1k",
        hub_id=f"timm/{model}.in1k",
        img_size=224,
        trained_on=("ImageNet-1k",),
        license="apache-2.0",
        code_license=code_license,
        top1=top1,
        source=source,
        preprocessing=ON_HUB,
        note=note,
    )


def parts_of(stages: Sequence[Stage], kind: str) -> Iterator[Part]:
    """The part of each stage's first block in a column."""
    return (stage.column(kind, 0) for stage in stages)
