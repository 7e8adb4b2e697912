"""LV-ViT's token labels and MixToken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from hexavit.errors import HexavitError
from hexavit.parts.contract import Size, Tokens


def token_label_targets(
    logits: Tensor,
    classes: Tensor,
    crop: Tensor,
    labels: Tensor,
    *,
    num_classes: int,
    size: int,
    smoothing: float = 0.1,
    swapped: bool = True,
) -> Tensor:
    """Soft targets for a crop, from the annotator's label map of the whole image.

    The map holds the logits of the five most probable classes of each cell; the others are 0. RoIAlign averages them
    over the cells of each token of the crop; then softmax and smoothing (LV-ViT: Jiang et al., NeurIPS 2021, section
    3.1; ReLabel: Yun et al., CVPR 2021).

    Args:
        logits: the highest logits (B, 5, h, w).
        classes: their classes (B, 5, h, w).
        crop: top, left, height and width (B, 4) as fractions of the image; beyond an edge its cells are repeated.
        labels: the true classes (B,).
        num_classes: K.
        size: s, tokens per side; if it is 1, the class token has no column of its own.
        smoothing: share of the target spread evenly over the classes.
        swapped: exchange rows and columns of the crop, as the authors' code does (taken from ReLabel).

    Returns:
        (B, K, 2 + s^2): the true class, the class token's label, then the tokens' labels in row-major order.
    """
    whole = logits.new_zeros(logits.shape[0], num_classes, *logits.shape[2:])
    whole.scatter_(1, classes.long(), logits)
    top, left, height, width = crop.unbind(dim=1)
    # A shift may reach beyond an edge, whose pixels are repeated there.
    beyond = float(torch.stack((-top, -left, top + height - 1, left + width - 1)).max())
    cells = max(0, ceil(beyond * max(whole.shape[2:]) - 1e-3))
    if cells:
        whole = F.pad(whole, (cells,) * 4, mode="replicate")
    corners = (top, left, top + height, left + width) if swapped else (left, top, left + width, top + height)
    sides = torch.tensor((logits.shape[3], logits.shape[2]) * 2)
    boxes = torch.stack(corners, dim=1) * sides.to(crop) - 0.5 + cells
    numbered = torch.cat((torch.arange(len(boxes)).to(boxes)[:, None], boxes), dim=1)
    grids = (1, size) if size > 1 else (1,)
    soft = torch.cat([roi_align(whole, numbered, (s, s)).softmax(dim=1).flatten(2) for s in grids], dim=2)
    spread = smoothing / num_classes
    true = F.one_hot(labels, num_classes).to(soft)[:, :, None] * (1 - smoothing)
    # The authors scale soft labels by 1 - smoothing + spread, so that they sum to 1 + spread.
    return torch.cat((true, soft * (1 - smoothing + spread)), dim=2) + spread


class TokenLabels(nn.Module):
    """Cross-entropy of the class token and of every token (LV-ViT: Jiang et al., NeurIPS 2021, eq. 4).

    loss = CE(class logits, y) + `dense` CE(token logits, y of each token). With MixToken, the class token's y is mixed
    by the area of the box.

    Args:
        dense: weight of the tokens' loss.
        truth: mix the true class into the class token's label: a half if both agree, else a tenth.
        label_smoothing: share of the target spread evenly over the classes; for targets without label maps.

    Shapes:
        outputs: class (B, K) and tokens (B, N, K); target (B, K, 2 + N) of `token_label_targets`, or (B,) or (B, K) of
        labels, which are then the target of every token; loss ().

    Same as zihangJiang/TokenLabeling, whose weight is 1 (the paper's is 0.5).

    Raises:
        HexavitError: on a call, the model has one output.
    """

    def __init__(self, dense: float = 1.0, truth: bool = False, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.dense, self.truth, self.label_smoothing = dense, truth, label_smoothing

    def forward(self, outputs: tuple[Tensor, Tensor], target: Tensor, box: Box | None = None) -> Tensor:
        (first, tokens), (whole, dense) = _pair(outputs), self._labels(outputs, target, box)
        token_loss = F.cross_entropy(tokens.flatten(0, 1).float(), dense.flatten(0, 1))
        return F.cross_entropy(first.float(), whole) + self.dense * token_loss

    @torch.no_grad()
    def hits(self, outputs: tuple[Tensor, Tensor], target: Tensor, box: Box | None = None) -> Tensor:
        """Sums over the images (2,): whose class token is right, and the share of their tokens that are.

        Right is the highest logit at the most probable class of the label.
        """
        (first, tokens), (whole, dense) = _pair(outputs), self._labels(outputs, target, box)
        found = ((first, whole), (tokens, dense))
        return torch.stack([(x.argmax(-1) == y.argmax(-1)).float().view(len(x), -1).mean(1).sum() for x, y in found])

    def _labels(self, outputs: tuple[Tensor, Tensor], target: Tensor, box: Box | None) -> tuple[Tensor, Tensor]:
        """The labels of the class token (B, K) and of the tokens (B, N, K)."""
        count, classes = _pair(outputs)[1].shape[1:]
        if target.ndim < 3:
            whole = F.one_hot(target, classes).float() if target.ndim == 1 else target
            whole = whole * (1 - self.label_smoothing) + self.label_smoothing / classes
            dense = whole[:, None].expand(-1, count, -1)
        else:
            whole, dense = target[:, :, 1], target[:, :, 2:].transpose(1, 2)
            if self.truth:
                true = target[:, :, 0]
                share = torch.where(whole.argmax(1) == true.argmax(1), 0.5, 0.9)[:, None]
                whole = share * whole + (1 - share) * true
        if box is not None:
            kept = 1 - box.area / count
            whole = kept * whole + (1 - kept) * whole.flip(0)
        return whole, dense


def _pair(outputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    if isinstance(outputs, Tensor):
        raise HexavitError("token labels need logits of every token: use head=token_labels")
    return outputs


@dataclass(frozen=True)
class Box:
    """A box of rows and columns of the token grid; `bottom` and `right` are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def area(self) -> int:
        """Number of tokens inside."""
        return (self.bottom - self.top) * (self.right - self.left)

    @classmethod
    def draw(cls, size: Size) -> Box:
        """Draw a box of uniform area and centre, clipped at the border, from PyTorch's global generator."""
        side = (1 - torch.rand(()).item()) ** 0.5
        edges = []
        for length in size:
            centre, half = int(torch.randint(length, ())), int(length * side) // 2
            edges.append((max(centre - half, 0), min(centre + half, length)))
        (top, bottom), (left, right) = edges
        return cls(top, left, bottom, right)

    def swap(self, x: Tensor, size: Size) -> Tensor:
        """Exchange the tokens in the box of (B, H W, C) with those of the reversed batch; its own inverse."""
        grid = x.unflatten(1, size).clone()
        rows, columns = slice(self.top, self.bottom), slice(self.left, self.right)
        grid[:, rows, columns] = grid.flip(0)[:, rows, columns]
        swapped: Tensor = grid.flatten(1, 2)
        return swapped


@contextmanager
def mixed_tokens(model: Any, box: Box) -> Iterator[None]:
    """Context manager for MixToken (Jiang et al., NeurIPS 2021, section 3.2).

    It mixes the tokens of each image with those of the reversed batch before positions are added, and returns the token
    logits to their own images.

    Same as zihangJiang/TokenLabeling: one box for the whole batch.
    """
    grids: list[Size] = []

    def mix(_: nn.Module, __: Any, tokens: Tokens) -> Tokens:
        grids.append(tokens.size)
        return tokens.with_image(box.swap(tokens.image, tokens.size))

    def unmix(_: nn.Module, __: Any, outputs: Any) -> Any:
        if not isinstance(outputs, tuple):
            return outputs
        first, tokens = outputs
        return first, box.swap(tokens, grids[-1])

    handles = (model.stages[0].tokens.register_forward_hook(mix), model.register_forward_hook(unmix))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
