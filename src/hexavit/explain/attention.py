"""Attention maps on the pixel grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hexavit.errors import HexavitError
from hexavit.explain.reading import PIECE, AttentionPart, Reading, attention_parts, backbone_of, read_attention
from hexavit.parts.contract import Size

Array = NDArray[np.float32]
Query = Literal["auto", "class", "mean"] | tuple[int, int]
Head = Literal["mean", "all"] | int


@dataclass(frozen=True)
class AttentionMap:
    """Where the queries of an attention part look, for one image.

    The sum of `cells`, `extra` and `padding` is 1 for each head where the part has a softmax. Parts whose weights are
    filters, or are mixed across heads, may have others, and negative ones.

    Attributes:
        path: of the module.
        stage: number of the stage.
        block: number of the block in its stage.
        query: `class`, `mean`, or the pixel (x, y).
        query_cell: row and column of the pixel in the grid of the queries; for points and sets in that of `cells`,
            where the query is the token with the largest share there, or the nearest; None without a pixel.
        query_grid: height and width of that grid.
        image_size: height and width of the image in pixels.
        heads: numbers of the heads, or `mean` alone.
        cells: weights of the cells of the map (heads, H, W), row by row over the image.
        extra: weights of extra tokens (heads, P): class and distillation tokens, messengers.
        padding: weights of padding (heads,).
    """

    path: str
    stage: int
    block: int
    query: str | tuple[int, int]
    query_cell: tuple[int, int] | None
    query_grid: Size
    image_size: Size
    heads: tuple[int | str, ...]
    cells: Array
    extra: Array
    padding: Array

    def pixels(self, smooth: bool = False) -> Array:
        """The weights of cells at each pixel (heads, H, W): of the cell that contains it, or bilinear if `smooth`."""
        return to_pixels(self.cells, self.image_size, smooth)


@torch.no_grad()
def attention_maps(
    model: Any,
    image: Tensor,
    *,
    stage: int | None = None,
    block: int | None = None,
    head: Head = "mean",
    query: Query = "auto",
) -> list[AttentionMap]:
    """Attention maps of one image on the pixel grid, of every attention part or of those of a stage and a block.

    Windows are put back to their places, shifted or spread ones too; keys that stand for several cells are spread over
    them, so that sums stay; extra tokens and padding are apart. Weights are computed in pieces from the
    queries and keys of a pass, whose attention stays fused: memory does not grow with the square of the image.

    ```python
    import torch

    import hexavit

    model = hexavit.create_model("cvt_nano", img_size=64).eval()
    (found,) = hexavit.explain.attention_maps(model, torch.randn(3, 64, 64), stage=0, block=-1, query=(40, 20))
    assert found.cells.shape == (1, 16, 16) and found.pixels().shape == (1, 64, 64)
    assert found.query_cell == (5, 10)
    ```

    Args:
        model: a model of `hexavit.create_model`, or a loaded one, in evaluation mode.
        image: (C, H, W), preprocessed.
        stage: number of the stage, negative from the end; None for all.
        block: number of the block in its stage, negative from the end; None for all.
        head: the `mean` over heads, the number of one, or `all`.
        query: whose map: the pixel (x, y), x to the right and y down; `class` for the class token; `mean` for the mean
            over all cells; `auto` for the class token in parts that have one, else the mean.

    Returns:
        A map for each part, in the order of the forward pass. Parts without a class token are left out if the query is
        `class`.

    Raises:
        HexavitError: there is no such stage, block, head or pixel, no attention part, or no class token.
    """
    parts = chosen_parts(model, stage, block, words=True)
    readings = read(model, image, parts)
    found = []
    for part, reading in zip(parts, readings, strict=True):
        name = _query_name(model, reading, query)
        if name is not None:
            found.append(_map_of(part, reading, name, head, _size_of(image)))
    if not found:
        raise HexavitError("no class token takes part in these attentions: use query=mean or a pixel")
    return found


@torch.no_grad()
def attention_matrix(
    model: Any, image: Tensor, *, stage: int = -1, block: int = -1, head: Head = "mean"
) -> tuple[Array, Size, Size]:
    """The whole map between all cells of an attention part: (heads, H_q W_q, H W), with both grids.

    Its memory grows with the square of the number of cells.

    Raises:
        HexavitError: there is no such stage, block or head, or no attention part.
    """
    parts = chosen_parts(model, stage, block)
    (reading, *_) = read(model, image, parts[-1:])
    numbers = torch.arange(reading.extra, reading.queries)
    step = max(1, PIECE // (reading.heads * (reading.keys + 1)))
    rows = [of_heads(reading.on_cells(reading.rows(each))[0], head) for each in numbers.split(step)]
    return torch.cat(rows, dim=1).flatten(2).numpy(), reading.query_grid, reading.size


def read(model: Any, image: Tensor, parts: list[AttentionPart]) -> list[Reading]:
    """The readings of a pass of one image (C, H, W) or (1, C, H, W)."""
    batch = image if image.ndim == 4 else image[None]
    backbone = backbone_of(model)
    with read_attention(backbone, parts) as readings:
        backbone.forward_features(batch)
    return readings


def chosen_parts(
    model: Any, stage: int | None = None, block: int | None = None, *, words: bool = False
) -> list[AttentionPart]:
    """The attention parts of a stage and a block, as `attention_parts` gives them.

    Raises:
        HexavitError: there is no such stage or block, or it has no attention.
    """
    stages = backbone_of(model).stage_modules
    _check("stage", stage, len(stages))
    wanted = []
    for part in attention_parts(model, words=words):
        blocks = len(stages[part.stage].blocks)
        if stage is not None and part.stage != stage % len(stages):
            continue
        if block is not None and not -blocks <= block < blocks and stage is not None:
            _check("block", block, blocks)
        if block is None or (-blocks <= block < blocks and part.block == block % blocks):
            wanted.append(part)
    if not wanted:
        where = "".join(f" of {name} {n}" for name, n in (("stage", stage), ("block", block)) if n is not None)
        name = backbone_of(model).architecture.name
        raise HexavitError(f"{name} has no attention weights to show{where}: its blocks there have no attention part")
    return wanted


def of_heads(weights: Tensor, head: Head) -> Tensor:
    """Choose from weights (heads, ...): the mean (1, ...), one (1, ...), or all.

    Raises:
        HexavitError: there is no such head.
    """
    if head == "mean":
        return weights.mean(dim=0, keepdim=True)
    if head == "all":
        return weights
    _check("head", head, weights.shape[0])
    return weights[head % weights.shape[0]][None]


def class_tokens(model: Any) -> int:
    """Number of extra tokens that the head brings; they stand in front of others."""
    return int(getattr(backbone_of(model).head, "extra_tokens", 0))


def cell_of(pixel: tuple[int, int], image_size: Size, grid: Size) -> tuple[int, int]:
    """Row and column of the cell that contains a pixel (x, y).

    Raises:
        HexavitError: the pixel is outside of the image.
    """
    x, y = pixel
    if not (0 <= x < image_size[1] and 0 <= y < image_size[0]):
        raise HexavitError(
            f"there is no pixel x={x}, y={y} in an image of {image_size[1]} x {image_size[0]} (width x height)"
        )
    return int(y * grid[0] // image_size[0]), int(x * grid[1] // image_size[1])


def to_pixels(cells: Array, image_size: Size, smooth: bool = False) -> Array:
    """Weights of cells (n, h, w) at each pixel (n, H, W): of the cell that contains it, or bilinear if `smooth`."""
    if smooth:
        grown = F.interpolate(torch.from_numpy(cells)[None], image_size, mode="bilinear", align_corners=False)
        return grown[0].numpy()
    rows, columns = (np.arange(side) * n // side for side, n in zip(image_size, cells.shape[1:], strict=True))
    return cells[:, rows[:, None], columns]


def _map_of(
    part: AttentionPart, reading: Reading, query: str | tuple[int, int], head: Head, size: Size
) -> AttentionMap:
    factors, cell = torch.zeros(reading.queries, device=reading.places[0].queries.device), None
    if query == "class":
        factors[0] = 1
    elif query == "mean":
        factors[reading.extra :] = 1 / math.prod(reading.query_grid)
    else:
        assert not isinstance(query, str)  # `_query_name` gives no others
        cell = cell_of(query, size, reading.query_grid if reading.shares is None else reading.cell_grid)
        factors[reading.extra + _number(reading, cell)] = 1
    weights = of_heads(reading.combined(factors), head)
    cells, extra, padding = (each.cpu().numpy() for each in reading.on_cells(weights))
    heads: tuple[int | str, ...] = tuple(range(len(cells))) if head == "all" else (head,)
    return AttentionMap(
        part.path, part.stage, part.block, query, cell, reading.query_grid, size, heads, cells, extra, padding
    )


def _query_name(model: Any, reading: Reading, query: Query) -> str | tuple[int, int] | None:
    """The query that a part can have; None for `class` where it has no class token.

    Raises:
        HexavitError: an unknown query.
    """
    if isinstance(query, tuple):
        return query if _has_image_queries(reading) else None
    if query not in ("auto", "class", "mean"):
        raise HexavitError(f"query is a pixel (x, y), auto, class or mean, not {query!r}")
    has_class = bool(class_tokens(model)) and reading.extra > 0
    if query != "mean" and has_class:
        return "class"
    return None if query == "class" or not _has_image_queries(reading) else "mean"


def _number(reading: Reading, cell: tuple[int, int]) -> int:
    """Number of the image token that stands for a cell."""
    row, column = cell
    if reading.shares is None:
        return row * reading.query_grid[1] + column
    here = reading.shares[:, row, column]
    if here.max() > 0:
        return int(here.argmax())
    at_rows = reading.shares.sum(dim=2) @ torch.arange(reading.cell_grid[0], device=here.device).float()
    at_columns = reading.shares.sum(dim=1) @ torch.arange(reading.cell_grid[1], device=here.device).float()
    return int(((at_rows - row) ** 2 + (at_columns - column) ** 2).argmin())


def _has_image_queries(reading: Reading) -> bool:
    return any(bool((places.queries >= reading.extra).any()) for places in reading.places)


def _size_of(image: Tensor) -> Size:
    return image.shape[-2], image.shape[-1]


def _check(name: str, number: int | None, count: int) -> None:
    if number is not None and not -count <= number < count:
        raise HexavitError(f"there is no {name} {number}: there are {count}, 0 to {count - 1}")
