"""Figures of the analyses, by matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hexavit.explain.analyses import Distance
from hexavit.explain.attention import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_distances(found: Sequence[Distance]) -> Figure:
    """A point for each head of each block: how far it looks, by depth."""
    figure, axes = _figure(1)
    depths = [depth for depth, each in enumerate(found) for _ in each.pixels]
    axes[0].scatter(depths, np.concatenate([each.pixels for each in found]), s=14)
    axes[0].set(xlabel="attention, in order", ylabel="mean distance (pixels)", ylim=(0, None))
    return figure


def draw_matrix(values: Array, rows: Sequence[str], columns: Sequence[str], title: str = "") -> Figure:
    """A matrix of similarities from 0 to 1, such as `attention_similarity` and `cka` give."""
    figure, axes = _figure(1)
    picture = axes[0].imshow(values, vmin=0, vmax=1)
    axes[0].set(title=title, xlabel=f"{columns[0]} to {columns[-1]}", ylabel=f"{rows[0]} to {rows[-1]}")
    figure.colorbar(picture)
    return figure


def draw_maps(maps: Sequence[Array] | Array, titles: Sequence[str] = ()) -> Figure:
    """Maps (h, w) side by side: tables of biases, learned masks, a receptive field."""
    figure, axes = _figure(len(maps))
    for number, (axis, values) in enumerate(zip(axes, maps, strict=True)):
        axis.imshow(values)
        axis.set(title=titles[number] if titles else "", xticks=[], yticks=[])
    return figure


def draw_sizes(sizes: Mapping[str, float]) -> Figure:
    """Sizes of activations by depth."""
    figure, axes = _figure(1)
    axes[0].plot(list(sizes.values()), marker="o")
    axes[0].set(xlabel="block, in order", ylabel="root mean square", ylim=(0, None))
    return figure


def draw_points(picture: Any, rounds: Sequence[Array]) -> Figure:
    """Sampled points over a picture, each round beside the one before."""
    figure, axes = _figure(len(rounds))
    for number, (axis, points) in enumerate(zip(axes, rounds, strict=True), 1):
        axis.imshow(picture)
        axis.scatter(points[:, 0], points[:, 1], s=6, c="red")
        axis.set(title=f"round {number}", xticks=[], yticks=[])
    return figure


def draw_position_similarity(values: Array) -> Figure:
    """A map for each place of the table, as the ViT paper's figure 7."""
    from matplotlib.figure import Figure

    h, w = values.shape[:2]
    figure = Figure(figsize=(min(12, w), min(12, h)))
    for number, axis in enumerate(figure.subplots(h, w, squeeze=False).ravel()):
        axis.imshow(values[number // w, number % w], vmin=-1, vmax=1)
        axis.set(xticks=[], yticks=[])
    return figure


def _figure(count: int) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * min(count, 6), 3.6 * -(-count // 6)), layout="constrained")
    axes = figure.subplots(-(-count // 6), min(count, 6), squeeze=False).ravel()
    for axis in axes[count:]:
        axis.remove()
    return figure, axes[:count]
