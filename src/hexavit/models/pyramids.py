"""Shared code of the pyramids: builders of stages and parts, and the key names of PVT and its successors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hexavit.architecture import Column, Part, Stage
from hexavit.models.key_tables import As, Table
from hexavit.models.weights import Preprocessing, Weight, in1k_weight

EPS = 1e-5
"""Eps of the norms in embeddings and after reductions; the norms of blocks have 1e-6."""

SMALL: Mapping[str, Any] = {
    "dims": (32, 64, 96, 128),
    "depths": (1, 1, 2, 1),
    "drop_path": 0.0,
    "heads": (1, 2, 3, 4),
    "img_size": 32,
}
"""Arguments shared by the `*_nano` pyramids, the models for small images and quick studies."""
REDUCED_LESS = (4, 2, 2, 1)
"""`sr_ratios` of the `*_nano` pyramids with a strided convolution."""

ON_HUB = Preprocessing(crop_pct=0.9)
"""timm's preprocessing; the authors use a crop of 0.875."""


def pyramid(
    dims: Sequence[int], depths: Sequence[int], drop_path: float = 0.0, **columns: Sequence[Column]
) -> tuple[Stage, ...]:
    """The stages of a pyramid.

    Args:
        dims: width of each stage.
        depths: number of blocks of each stage.
        drop_path: rate of the last block; it rises from 0 over the model.
        **columns: for each column named, the part of each stage.
    """
    return tuple(
        Stage(dim, depth, drop_path=drop_path, **dict(zip(columns, parts, strict=True)))
        for dim, depth, *parts in zip(dims, depths, *columns.values(), strict=True)
    )


def patches(first: int = 4, later: int = 2, count: int = 4) -> list[Part]:
    """Non-overlapping embeddings, each with a norm (PVT, Twins)."""
    return [Part("conv", kernel=k, stride=k, eps=EPS) for k in (first, *(later,) * (count - 1))]


def overlapping(count: int = 4) -> list[Part]:
    """Overlapping, padded embeddings, each with a norm: 7x7/4, then 3x3/2 (PVT v2, P2T)."""
    windows = [(7, 4), *((3, 2),) * (count - 1)]
    return [Part("conv", kernel=k, stride=s, padding=k // 2, eps=EPS) for k, s in windows]


def reduced(heads: Sequence[int], sr_ratios: Sequence[int]) -> list[Part]:
    """Spatial-reduction attention by a strided convolution, for each stage; a ratio of 1 is left at its default."""
    return [
        Part("spatial_reduction", heads=head, **({"sr_ratio": ratio} if ratio > 1 else {}), eps=EPS)
        for head, ratio in zip(heads, sr_ratios, strict=True)
    ]


def numbered(table: Mapping[str, str | As], count: int = 4) -> Table:
    """Repeat the key table of one stage for `count` stages: `<n>` counts from 1 (theirs), `<s>` from 0 (ours)."""
    return {theirs.replace("<n>", str(s + 1)): _at(ours, s) for s in range(count) for theirs, ours in table.items()}


def _at(ours: str | As, s: int) -> str | As:
    return ours.replace("<s>", str(s)) if isinstance(ours, str) else As(ours.ours.replace("<s>", str(s)), ours.form)


def block(theirs: str, ours: str) -> dict[str, str]:
    """Key table rows of a PVT block: norms, attention with a strided reduction, MLP."""
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
    """`block` as a `Table`."""
    return dict(block(theirs, ours).items())


AUTHORS_STAGE = {
    "patch_embed<n>.proj.*": "stages.<s>.tokens.conv.*",
    "patch_embed<n>.norm.*": "stages.<s>.tokens.norm.*",
    **block("block<n>.{}", "stages.<s>.blocks.{}"),
}
"""Key names of a stage in whai362/PVT, P2T and LocalViT."""


def hub_weight(model: str, top1: float, source: str, *, note: str) -> Weight:
    """The authors' weights in timm's repository on the hub."""
    return in1k_weight(f"timm/{model}.in1k", top1, source, "apache-2.0", preprocessing=ON_HUB, note=note)


def parts_of(stages: Sequence[Stage], kind: str) -> Iterator[Part]:
    """The part in column `kind` of the first block of each stage."""
    return (stage.column(kind, 0) for stage in stages)
