"""LV-ViT's training: a label for every token, and tokens of two images mixed in one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
    """Soft targets from an annotator's map of each whole image, for the crop that was cut out of it.

    The map's five best classes a cell, at their logits among zeros, are averaged over the crop's places (RoIAlign),
    then softmax and smoothing (LV-ViT: Jiang et al., NeurIPS 2021, section 3.1; ReLabel: Yun et al., CVPR 2021).

    Args:
        logits: the highest logits (B, 5, h, w).
        classes: their classes (B, 5, h, w).
        crop: top, left, height and width (B, 4) as fractions of the image.
        labels: the true classes (B,).
        num_classes: K.
        size: s, tokens per side; with 1 there is no separate column for the class token.
        smoothing: share spread evenly over the classes.
        swapped: read the crop's rows as columns, as the authors' code does (and ReLabel's, from which it comes).

    Returns:
        (B, K, 2 + s^2): the true class, the class token's label, then the tokens' row by row.
    """
    whole = logits.new_zeros(logits.shape[0], num_classes, *logits.shape[2:])
    whole.scatter_(1, classes.long(), logits)
    top, left, height, width = crop.unbind(dim=1)
    corners = (top, left, top + height, left + width) if swapped else (left, top, left + width, top + height)
    boxes = torch.stack(corners, dim=1) * whole.shape[3] - 0.5
    numbered = torch.cat((torch.arange(len(boxes)).to(boxes)[:, None], boxes), dim=1)
    sides = (1, size) if size > 1 else (1,)
    soft = torch.cat([roi_align(whole, numbered, (s, s)).softmax(dim=1).flatten(2) for s in sides], dim=2)
    spread = smoothing / num_classes
    true = F.one_hot(labels, num_classes).to(soft)[:, :, None] * (1 - smoothing)
    # The authors' factor on the soft labels is what is left of a hard one, so that they sum to 1 + spread.
    return torch.cat((true, soft * (1 - smoothing + spread)), dim=2) + spread


class TokenLabels(nn.Module):
    """A label for the class token, and one for every token (LV-ViT: Jiang et al., NeurIPS 2021, eq. 4).

    CE(class logits, y) + `dense` CE(token logits, y of each token); where a box was mixed, y is mixed by its share.
    `truth` corrects the annotator's label: half the true class where both agree, a tenth where not.

    Shapes:
        answers: class (B, K) and tokens (B, N, K); target (B, K, 2 + N) of `token_label_targets`, or (B,) or (B, K) of
        labels, which then hold for every token; loss ().

    Same as zihangJiang/TokenLabeling, whose weight is 1 (the paper's is 0.5).

    Raises:
        HexavitError: on a call, a model with one answer.
    """

    def __init__(self, dense: float = 1.0, truth: bool = False, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.dense, self.truth, self.label_smoothing = dense, truth, label_smoothing

    def forward(self, answers: tuple[Tensor, Tensor], target: Tensor, box: Box | None = None) -> Tensor:
        if isinstance(answers, Tensor):
            raise HexavitError("token labels need an answer for every token: use head=token_labels")
        first, tokens = answers
        count, classes = tokens.shape[1:]
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
        taught = F.cross_entropy(tokens.flatten(0, 1).float(), dense.flatten(0, 1))
        return F.cross_entropy(first.float(), whole) + self.dense * taught


@dataclass(frozen=True)
class Box:
    """Rows and columns of the grid of tokens, half-open."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def area(self) -> int:
        """Tokens inside."""
        return (self.bottom - self.top) * (self.right - self.left)

    @classmethod
    def draw(cls, size: Size) -> Box:
        """A box of uniform area and centre, cut at the border, from PyTorch's global generator."""
        side = (1 - torch.rand(()).item()) ** 0.5
        edges = []
        for length in size:
            centre, half = int(torch.randint(length, ())), int(length * side) // 2
            edges.append((max(centre - half, 0), min(centre + half, length)))
        (top, bottom), (left, right) = edges
        return cls(top, left, bottom, right)

    def swap(self, x: Tensor, size: Size) -> Tensor:
        """(B, H W, C) with the box's tokens taken from the batch in reverse; doing it twice undoes it."""
        grid = x.unflatten(1, size).clone()
        rows, columns = slice(self.top, self.bottom), slice(self.left, self.right)
        grid[:, rows, columns] = grid.flip(0)[:, rows, columns]
        swapped: Tensor = grid.flatten(1, 2)
        return swapped


@contextmanager
def mixed_tokens(model: Any, box: Box) -> Iterator[None]:
    """Within it, the model's first tokens are mixed with those of the batch in reverse before positions are added, and
    its token answers are set back to their own images (MixToken: Jiang et al., NeurIPS 2021, section 3.2).

    Same as zihangJiang/TokenLabeling: one box for the whole batch.
    """
    grids: list[Size] = []

    def mix(_: nn.Module, __: Any, tokens: Tokens) -> Tokens:
        grids.append(tokens.size)
        return tokens.with_image(box.swap(tokens.image, tokens.size))

    def back(_: nn.Module, __: Any, answers: Any) -> Any:
        if not isinstance(answers, tuple):
            return answers
        first, tokens = answers
        return first, box.swap(tokens, grids[-1])

    handles = (model.stages[0].tokens.register_forward_hook(mix), model.register_forward_hook(back))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
