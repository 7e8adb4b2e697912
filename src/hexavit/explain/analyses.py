"""What the papers draw of a model: distances and similarity of attention, position and bias tables, activations, points
and masks, the effective receptive field, and the similarity of layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hexavit.errors import HexavitError
from hexavit.explain.attention import Array, chosen_parts, read
from hexavit.explain.reading import PIECE, AttentionPart, Reading, attention_parts, backbone_of
from hexavit.parts.contract import Size, Tokens
from hexavit.parts.positions.relative import ContinuousBias, RelativeBias
from hexavit.parts.positions.tables import LearnedPosition
from hexavit.parts.tokens.progressive_sampling import ProgressiveSampling
from hexavit.parts.tokens.token_learner import Learner


class Distance(NamedTuple):
    """How far the heads of an attention part look.

    Attributes:
        path: of the module.
        stage: number of the stage.
        block: number of the block.
        pixels: mean distance of each head in pixels (heads,).
    """

    path: str
    stage: int
    block: int
    pixels: Array


@torch.no_grad()
def attention_distance(model: Any, image: Tensor) -> list[Distance]:
    """The mean distance in pixels between a cell and the cells it attends to, by depth and head (ViT: Dosovitskiy et
    al., ICLR 2021, figure 7).

    Weights of extra tokens and of padding are left out, and the others scaled to sum to 1. Weights of filters count by
    their absolute values.

    Args:
        model: a model of `hexavit.create_model`, or a loaded one, in evaluation mode.
        image: (C, H, W), preprocessed.
    """
    found = []
    for part, reading in _image_readings(model, image):
        total = torch.zeros(reading.heads)
        at_queries = _centres(reading.query_grid if reading.shares is None else reading.cell_grid, image)
        if reading.shares is not None:
            at_queries = reading.shares.flatten(1) @ at_queries
        at_keys, count = _centres(reading.cell_grid, image), math.prod(reading.query_grid)
        for numbers in _in_steps(reading):
            cells = reading.on_cells(reading.rows(numbers))[0].flatten(2).abs()
            cells = cells / cells.sum(dim=2, keepdim=True).clamp(min=1e-12)
            far = torch.cdist(at_queries[numbers - reading.extra], at_keys)
            total += (cells * far).sum(dim=(1, 2)) / count
        found.append(Distance(part.path, part.stage, part.block, total.numpy()))
    return found


@torch.no_grad()
def attention_similarity(model: Any, image: Tensor, *, stage: int = -1) -> tuple[list[str], Array]:
    """The cosine similarity of the attention maps of all pairs of blocks of a stage, in the mean over queries and heads
    (DeepViT: Zhou et al., 2021, eq. 2 and figure 3).

    Returns:
        The paths of the parts, and a matrix (n, n).

    Raises:
        HexavitError: the stage has no attention, or its attentions differ in grids or heads.
    """
    parts = chosen_parts(model, stage)
    kept = [each for each in read(model, image, parts) if bool(each.asked[each.extra :].any())]
    if not kept:
        raise HexavitError(f"stage {stage} has no attention between image tokens")
    if len({(each.query_grid, each.size, each.heads, each.extra) for each in kept}) > 1:
        raise HexavitError(
            f"the attentions of stage {stage} differ in grids or heads, so their maps have no similarity"
        )
    total, count = torch.zeros(len(kept), len(kept)), 0
    step = max(1, PIECE // (len(kept) * kept[0].heads * (kept[0].keys + 1)))
    for numbers in torch.arange(kept[0].extra, kept[0].queries).split(step):
        rows = [each.rows(numbers) for each in kept]
        tokens = [
            torch.cat((r[..., : each.extra], each.on_tokens(r).flatten(2)), dim=2)
            for each, r in zip(kept, rows, strict=True)
        ]
        maps = nn.functional.normalize(torch.stack(tokens), dim=3)
        total += torch.einsum("ahqk,bhqk->ab", maps, maps)
        count += maps.shape[1] * maps.shape[2]
    return [each.path for each in kept], (total / count).numpy()


def position_similarity(model: Any) -> Array:
    """The cosine similarity of the rows of a learned position table (H, W, H, W) (ViT, figure 7).

    Raises:
        HexavitError: the model has no learned table.
    """
    parts = [each for each in backbone_of(model).modules() if isinstance(each, LearnedPosition)]
    if not parts:
        raise HexavitError(f"{backbone_of(model).architecture.name} has no learned position table")
    table = parts[0].table.detach()[0, parts[0].prefix :]
    rows = nn.functional.normalize(table, dim=1)
    found: Array = (rows @ rows.T).unflatten(1, parts[0].size).unflatten(0, parts[0].size).numpy()
    return found


@torch.no_grad()
def bias_tables(model: Any) -> dict[str, Array]:
    """The relative position bias of each part by offset, (heads, 2 h - 1, 2 w - 1) with the offset 0 in the middle:
    query minus key (Swin, Swin V2). By path of the position part; empty for models without one."""
    found = {}
    for path, part in backbone_of(model).named_modules():
        if isinstance(part, RelativeBias | ContinuousBias):
            h, w = part.scope
            bias = part(part.scope, torch.empty(0), part.scope)
            at = torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"), dim=-1).flatten(0, 1)
            offset = at[:, None] - at[None] + torch.tensor([h - 1, w - 1])
            table = torch.zeros(bias.shape[0], 2 * h - 1, 2 * w - 1)
            table[:, offset[..., 0], offset[..., 1]] = bias.float()
            found[path] = table.numpy()
    return found


@torch.no_grad()
def activation_size(model: Any, image: Tensor) -> dict[str, float]:
    """The root mean square of the image tokens that leave each block, by its path (Swin V2: Liu et al., CVPR 2022,
    figure 2)."""
    return {path: float(tokens.square().mean().sqrt()) for path, tokens in _block_outputs(model, image[None])}


@torch.no_grad()
def sampled_points(model: Any, image: Tensor) -> list[Array]:
    """The points (N, 2), x and y in pixels, of each round of progressive sampling (PS-ViT: Yue et al., ICCV 2021).

    Raises:
        HexavitError: the model samples no points.
    """
    found: list[Array] = []
    for _, out in _outputs_of(model, image, ProgressiveSampling):
        points, grid = out.carry["points"][0].float(), out.carry["sampled_map"].shape[1:3]
        scale = torch.tensor([image.shape[1] / grid[0], image.shape[2] / grid[1]])
        found.append(((points + 0.5) * scale).flip(1).numpy())
    if not found:
        raise HexavitError(f"{backbone_of(model).architecture.name} samples no points: progressive_sampling does")
    return found


@torch.no_grad()
def token_masks(model: Any, image: Tensor) -> list[Array]:
    """The learned mask (S, H, W) of each token of each TokenLearner (Ryoo et al., NeurIPS 2021), sums of 1.

    Raises:
        HexavitError: the model learns no tokens.
    """
    found: list[Array] = []
    for part, (tokens, out) in zip(*_inputs_of(model, image, Learner), strict=True):
        found.append(part.cell_shares(tokens, out)[0].numpy())
    if not found:
        raise HexavitError(f"{backbone_of(model).architecture.name} learns no tokens: token_learner does")
    return found


@torch.no_grad()
def messenger_maps(model: Any, image: Tensor, *, stage: int = 0, block: int = -1) -> Array:
    """The attention of each extra token of a part, (P, H, W), in the mean over heads: of MSG-Transformer's messengers,
    each of which reads its window.

    Raises:
        HexavitError: there is no such stage or block, or no extra tokens there.
    """
    (reading, *_) = read(model, image, chosen_parts(model, stage, block)[-1:])
    if not reading.extra:
        raise HexavitError(f"no extra tokens take part in the attention of stage {stage}")
    cells = reading.on_cells(reading.rows(torch.arange(reading.extra)).mean(dim=0))[0]
    return np.asarray(cells.numpy())


def receptive_field(model: Any, images: Tensor, *, stage: int = -1) -> Array:
    """The effective receptive field of a stage: the mean size of the gradient of the cell in the middle of its map by
    each pixel, (H, W) with a largest value of 1 (Luo et al., NeurIPS 2016).

    Args:
        model: the model.
        images: (B, C, H, W), preprocessed, or (C, H, W).
        stage: number of the stage.

    Raises:
        HexavitError: there is no such stage, or its tokens have no map.
    """
    from hexavit.explain.methods import target_layer

    backbone, kept = backbone_of(model), list[Tensor]()
    total = torch.zeros(images.shape[-2:])
    layer = target_layer(backbone, stage)
    handle = layer.register_forward_hook(lambda _, __, out: kept.append(out))
    try:
        for image in images if images.ndim == 4 else images[None]:
            leaf = image[None].detach().clone().requires_grad_()
            with torch.enable_grad():
                backbone.forward_features(leaf)
                middle = kept.pop()[0, :, :, :]
                middle = middle[:, middle.shape[1] // 2, middle.shape[2] // 2].sum()
                (gradient,) = torch.autograd.grad(middle, leaf)
            total += gradient[0].abs().sum(dim=0).cpu()
    finally:
        handle.remove()
    return np.asarray((total / total.max().clamp(min=1e-12)).numpy())


@torch.no_grad()
def cka(model: Any, other: Any, images: Tensor) -> tuple[list[str], list[str], Array]:
    """Linear centred kernel alignment between the blocks of two models (Kornblith et al., ICML 2019): 1 for outputs
    that are equal up to rotation and scale, on the same images.

    Args:
        model: a model of `hexavit.create_model`, or a loaded one.
        other: another one, or the same.
        images: (B, C, H, W), preprocessed, of at least 3 images; the more, the less biased.

    Returns:
        The paths of the blocks of both models, and the alignments (n, m).

    Raises:
        HexavitError: fewer than 3 images.
    """
    if len(images) < 3:
        raise HexavitError(f"CKA compares models over images: give 3 or more, not {len(images)}")
    kernels = [
        {path: _centred_kernel(tokens) for path, tokens in _block_outputs(each, images)} for each in (model, other)
    ]
    first, second = (torch.stack(list(each.values())).flatten(1) for each in kernels)
    aligned = nn.functional.normalize(first, dim=1) @ nn.functional.normalize(second, dim=1).T
    return list(kernels[0]), list(kernels[1]), aligned.float().numpy()


def _centred_kernel(tokens: Tensor) -> Tensor:
    """(B, N, C) to the products of all pairs of images (B, B), of features of mean 0."""
    features = tokens.flatten(1).double()
    features = features - features.mean(dim=0)
    return features @ features.T


def _block_outputs(model: Any, images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The image tokens (B, N, C) that leave each block, with its path."""
    backbone, found = backbone_of(model), list[tuple[str, Tensor]]()
    with ExitStack() as stack:
        for s, stage in enumerate(backbone.stage_modules):
            for b, block in enumerate(stage.typed_blocks):

                def keep(_: nn.Module, args: Any, kwargs: Any, out: Any, path: str = f"stages.{s}.blocks.{b}") -> None:
                    x = out[0] if isinstance(out, tuple) else out
                    found.append((path, x[:, kwargs["prefix"] :].detach()))

                stack.callback(block.register_forward_hook(keep, with_kwargs=True).remove)
        backbone.forward_features(images)
    yield from found


def _outputs_of(model: Any, image: Tensor, kind: type[nn.Module]) -> list[tuple[nn.Module, Tokens]]:
    parts, calls = _inputs_of(model, image, kind)
    return [(part, out) for part, (_, out) in zip(parts, calls, strict=True)]


def _inputs_of(model: Any, image: Tensor, kind: type[nn.Module]) -> tuple[list[Any], list[tuple[Tokens, Tokens]]]:
    """The tokens parts of a kind, and what goes in and comes out of each in a pass."""
    backbone, parts, calls = backbone_of(model), list[Any](), list[tuple[Tokens, Tokens]]()
    with ExitStack() as stack:
        for module in backbone.modules():
            if isinstance(module, kind):

                def keep(part: nn.Module, args: Any, out: Any) -> None:
                    parts.append(part)
                    calls.append((args[0], out))

                stack.callback(module.register_forward_hook(keep).remove)
        backbone.forward_features(image[None])
    return parts, calls


def _image_readings(model: Any, image: Tensor) -> Iterator[tuple[AttentionPart, Reading]]:
    """The attention parts between image tokens."""
    parts = attention_parts(backbone_of(model))
    for part, reading in zip(parts, read(model, image, parts), strict=True):
        if bool(reading.asked[reading.extra :].any()):
            yield part, reading


def _in_steps(reading: Reading) -> Sequence[Tensor]:
    step = max(1, PIECE // (reading.heads * (reading.keys + 1)))
    steps: Sequence[Tensor] = torch.arange(reading.extra, reading.queries).split(step)
    return steps


def _centres(grid: Size, image: Tensor) -> Tensor:
    """The centres of cells in pixels (N, 2), y and x."""
    rows, columns = ((torch.arange(n) + 0.5) * side / n for n, side in zip(grid, image.shape[1:], strict=True))
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).flatten(0, 1)
