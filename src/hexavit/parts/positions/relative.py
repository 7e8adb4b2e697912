"""Relative position biases, added to attention logits by the offset between query and key."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.errors import nearest
from hexavit.parts.contract import PartModule, Size
from hexavit.parts.layers import ComputedBuffers, known
from hexavit.parts.registry import register_part

Spacing = Literal["log", "linear"]


class LogitPosition(ComputedBuffers, PartModule):
    """Base of the positions that act on logits: `position(scope, queries, key_scope)` gives what is added to q k^T.

    `scope` (h, w) is the grid on which an attention's queries and keys meet: a window, or the whole map. Keys may have
    another grid, `key_scope`, for a part that declares `two_grids`.
    """

    acts = "logits"

    def forward(self, scope: Size, queries: Tensor | None = None, key_scope: Size | None = None) -> Tensor:
        """Compute the bias.

        Args:
            scope: (h, w), with N = h w tokens.
            queries: (B, h, N, d), for a bias that depends on them.
            key_scope: grid of the keys, with M tokens; by default `scope`.

        Returns:
            (h, N, M), row the query and column the key; (B, h, N, M) where it depends on the queries.
        """
        raise NotImplementedError


@register_part("position", "relative_bias")
class RelativeBias(LogitPosition):
    """A learned number for each head and offset, added to the logits (Swin: Liu et al., ICCV 2021, eq. 4).

    B[i, j] = table[row_i - row_j + h - 1, column_i - column_j + w - 1], query minus key, on the attention's scope
    (h, w): its window, or the whole map. Swin V2 calls it the parameterised bias. For another scope the table is
    resized bicubically over its offsets, as the authors' loader does. Extra tokens get no bias.

    Shapes: gives (heads, N, N) for the logits (B, heads, N, N), N = h w. Cost: parameters (2 h - 1) (2 w - 1) heads;
    multiply-adds none.
    Same as `relative_position_bias_table` of microsoft/Swin-Transformer, timm, torchvision and transformers.
    """

    no_decay = ("table",)

    index: Tensor

    def __init__(self, heads: int, scope: Size) -> None:
        super().__init__()
        self.heads, self.scope = heads, scope
        self.table = nn.Parameter(torch.empty((2 * scope[0] - 1) * (2 * scope[1] - 1), heads))
        nn.init.trunc_normal_(self.table, std=0.02)
        self.init_non_persistent_buffers()

    def forward(self, scope: Size, queries: Tensor | None = None, key_scope: Size | None = None) -> Tensor:
        """The bias (heads, N, N)."""
        if _is(scope, self.scope):
            return _gathered(self.table, self.index)
        return _gathered(self.table_at(scope), offset_index(scope, self.table.device))

    def table_at(self, scope: Size) -> Tensor:
        """The table ((2 h - 1) (2 w - 1), heads) for another scope (h, w)."""
        return resize_offsets(self.table, self.scope, scope)

    @torch.no_grad()
    def set_size(self, size: Size) -> None:
        """Resize the table to another scope."""
        if size != self.scope:
            self.table = nn.Parameter(self.table_at(size), requires_grad=self.table.requires_grad)
            self.scope = size
            self.init_non_persistent_buffers()

    def computed_buffers(self) -> dict[str, Tensor]:
        """The row of the table for each query and key."""
        return {"index": offset_index(self.scope, torch.device("cpu"))}


@register_part("position", "continuous_bias")
class ContinuousBias(LogitPosition):
    """Biases of all heads as a small network of the offset (Swin V2: Liu et al., CVPR 2022, section 3.3, eq. 3 and 4).

    New in it: a bias for any window from the same weights. B = 16 sigmoid(W2 relu(W1 t + b1)) with t, for an offset d
    and t' = 8 d / (p - 1) on each axis, sign(t') log2(1 + |t'|) / 3. With another window p stays that of the
    pre-training, so that equal offsets keep equal biases.

    Shapes: gives (heads, N, N) for the logits (B, heads, N, N), N = h w. Cost with O = (2 h - 1) (2 w - 1) offsets:
    parameters 3 `hidden` + `hidden` heads; multiply-adds O (2 `hidden` + `hidden` heads), once a forward pass.
    Same as `cpb_mlp` of microsoft/Swin-Transformer, timm and transformers; torchvision's has no `pretrained_window`.

    Args:
        spacing: `log` for the t above; `linear` for t = t' / 8, the paper's ablation.
        pretrained_window: side p of the window in pre-training; 0 for the side of the scope.
        hidden: hidden width of the network.

    Raises:
        ValueError: an unknown spacing, or a negative window.
    """

    no_decay = ("fc1.weight", "fc2.weight")
    offsets: Tensor
    index: Tensor

    def __init__(
        self, heads: int, scope: Size, *, spacing: Spacing = "log", pretrained_window: int = 0, hidden: int = 512
    ) -> None:
        super().__init__()
        if spacing not in get_args(Spacing):
            raise ValueError(f"there is no spacing {spacing!r}: {nearest(spacing, get_args(Spacing))}")
        if pretrained_window < 0 or hidden < 1:
            raise ValueError(
                f"pretrained_window is at least 0 and hidden at least 1, not {pretrained_window} and {hidden}"
            )
        self.heads, self.scope, self.spacing, self.pretrained_window = heads, scope, spacing, pretrained_window
        self.fc1, self.fc2 = nn.Linear(2, hidden), nn.Linear(hidden, heads, bias=False)
        self.init_non_persistent_buffers()

    def forward(self, scope: Size, queries: Tensor | None = None, key_scope: Size | None = None) -> Tensor:
        """The bias (heads, N, N)."""
        offsets, index = self.offsets, self.index
        if not _is(scope, self.scope):
            offsets, index = grid_offsets(scope, index.device), offset_index(scope, index.device)
        scaled = scaled_offsets(offsets, scope, self.spacing, self.pretrained_window)
        # A quantised linear has no weight whose dtype could be read.
        dtype = next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.float32)
        return _gathered(16 * self.fc2(F.relu(self.fc1(scaled.to(dtype)))).sigmoid(), index)

    def set_size(self, size: Size) -> None:
        """Compute the offsets of another scope."""
        self.scope = size
        self.init_non_persistent_buffers()

    def computed_buffers(self) -> dict[str, Tensor]:
        """The offsets of the scope, and the row of each query and key among them."""
        cpu = torch.device("cpu")
        return {"offsets": grid_offsets(self.scope, cpu), "index": offset_index(self.scope, cpu)}

    def macs(self, size: Size, extra: int = 0) -> int:
        """O (2 hidden + hidden heads), `size` being the scope."""
        count = (2 * size[0] - 1) * (2 * size[1] - 1)
        return count * self.fc1.out_features * (2 + self.heads)


def grid_offsets(scope: Size, device: torch.device | None = None) -> Tensor:
    """All offsets between two places of a grid (h, w): ((2 h - 1) (2 w - 1), 2), row by row, whole numbers."""
    rows, columns = (torch.arange(1 - n, n, device=device) for n in scope)
    return torch.stack(torch.broadcast_tensors(rows[:, None], columns), dim=-1).flatten(0, 1)


def scaled_offsets(offsets: Tensor, scope: Size, spacing: Spacing = "log", pretrained_window: int = 0) -> Tensor:
    """Scale offsets (O, 2) on a grid (h, w) to the inputs (O, 2) of the network of `ContinuousBias`."""
    farthest = (max((pretrained_window or n) - 1, 1) for n in scope)
    t = torch.stack([8 * d.float() / n for d, n in zip(offsets.unbind(1), farthest, strict=True)], dim=1)
    return t.sign() * torch.log2(t.abs() + 1) / 3 if spacing == "log" else t / 8


def offset_index(scope: Size, device: torch.device | None = None) -> Tensor:
    """For each query and key of a grid (h, w) the row (N, N) of their offset, query minus key, in a table of
    (2 h - 1) (2 w - 1)."""
    h, w = scope
    rows = torch.arange(h, device=device)[:, None].expand(h, w).flatten()
    columns = torch.arange(w, device=device)[None].expand(h, w).flatten()
    return (rows[:, None] - rows + h - 1) * (2 * w - 1) + columns[:, None] - columns + w - 1


def resize_offsets(table: Tensor, scope: Size, new: Size) -> Tensor:
    """A table ((2 h - 1) (2 w - 1), heads) of offsets on one grid for another: bicubic, half-pixel centres."""
    if _is(new, scope):
        return table.clone()
    image = table.t().unflatten(1, (2 * scope[0] - 1, 2 * scope[1] - 1))[None]
    image = F.interpolate(image.float(), size=(2 * new[0] - 1, 2 * new[1] - 1), mode="bicubic")
    return image[0].flatten(1).t().to(table.dtype)


def _gathered(table: Tensor, index: Tensor) -> Tensor:
    """Rows of (O, h) by (N, N) as (h, N, N)."""
    return F.embedding(index, table).permute(2, 0, 1).contiguous()


def _is(size: Size, other: Size) -> bool:
    """Whether a size is this one; a traced size has no value to compare."""
    return known(*size) and tuple(size) == tuple(other)
