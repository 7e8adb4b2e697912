"""Progressive sampling: tokens are read from a map at points, which every round moves."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hexavit.errors import ArchitectureError
from hexavit.parts.contract import PartModule, Size, Tokens
from hexavit.parts.layers import without_autocast
from hexavit.parts.registry import register_part


def sample_bilinear(grid: Tensor, points: Tensor) -> Tensor:
    """The values of a map between its pixels.

    Pixel centres are at whole numbers, and pixels outside the map are 0, as `grid_sample` has it with aligned corners
    and zero padding. Made of gathers, so that second derivatives, `vmap` and exported graphs work.

    Args:
        grid: the map (B, H, W, C).
        points: places (y, x) in pixels (B, N, 2), float32 at least.

    Returns:
        (B, N, C).
    """
    h, w, c = grid.shape[1:]
    flat = grid.flatten(1, 2)
    corner = points.detach().floor()
    share = points - corner  # (B, N, 2)
    y, x = corner[..., 0], corner[..., 1]
    total = None
    for dy in (0, 1):
        for dx in (0, 1):
            row, column = y + dy, x + dx
            inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
            part_y = share[..., 0] if dy else 1 - share[..., 0]
            part_x = share[..., 1] if dx else 1 - share[..., 1]
            weight = (part_y * part_x * inside).unsqueeze(-1)
            index = row.clamp(0, h - 1).long() * w + column.clamp(0, w - 1).long()
            values = flat.gather(1, index.unsqueeze(-1).expand(-1, -1, c)).to(weight.dtype) * weight
            total = values if total is None else total + values
    assert total is not None  # four neighbours
    return total


@register_part("tokens", "progressive_sampling")
class ProgressiveSampling(PartModule):
    """One round of progressive sampling (PS-ViT: Yue et al., ICCV 2021).

    New in it: tokens stand at points and not on a grid. The first round, which reads a raster, samples the map at the
    centres of n x n equal cells. Each later round, which reads points, moves them by a linear of the tokens and samples
    the same map again.

    First round: p = centres, t = F(p) + W p / (H, W) + b. Later ones: o = V x + c, t = x + F(p + gamma o)
    + W (p + o) / (H, W) + b, and p + o is the next p. Gradients reach o through the sampling alone. All rounds share
    the linear (W, b), which the first one holds; the map, the points and this linear travel in `carry`.

    Shapes: (B, H, W, C_in), then (B, n^2, C_in), to points (B, n^2, C). Cost: parameters 3 C in the first round (and
    (C_in + 1) C, with multiply-adds H W C_in C, if C_in is not C), 2 C_in + 2 in later ones; multiply-adds 2 n^2 C
    + 6 C, then 2 n^2 (C + C_in). The bilinear sum is not counted.
    Same as yuexy/PS-ViT, whose operation exists for CUDA alone and whose images are squares of one size. Here the map
    has any H x W, and n stays. Its CUDA backward clamps points into the map within one pixel of the border, and its
    gradients differ there.

    Args:
        points: n, read in the first round alone.
        gamma: factor of the offsets where the map is sampled; not of the points themselves.

    Raises:
        ValueError: n below 1, points of another part, or a width that changes after the first round.
        ArchitectureError: called with tokens of another layout than the model was built for.
    """

    needs = "points"
    reads_grid = True
    keeps_extra = False
    makes = "points"
    gives = ("sampled_map", "points", "point_code")
    starts_at_zero = ("offset",)

    def __init__(
        self,
        in_dim: int,
        dim: int,
        size: Size,
        grid: Size,
        carried: Mapping[str, tuple[int, ...]],
        *,
        points: int = 14,
        gamma: float = 1.0,
    ) -> None:
        super().__init__()
        if points < 1:
            raise ValueError(f"points must be at least 1, not {points}")
        self.moves = "points" in carried
        if not self.moves and size != grid:
            raise ValueError("it reads a map, or points of an earlier progressive_sampling")
        if self.moves and in_dim != dim:
            raise ValueError(f"the width stays {in_dim} after the first round, and cannot change to {dim}")
        self.points, self.gamma, self.dim = points, gamma, dim
        self.given_shapes = {"points": (2,)}
        self.proj: nn.Module = nn.Identity()
        if self.moves:
            self.offset = nn.Linear(in_dim, 2)
        else:
            self.position = nn.Linear(2, dim)
            self.proj = nn.Identity() if in_dim == dim else nn.Linear(in_dim, dim)

    def forward(self, tokens: Tokens) -> Tokens:
        """A map (B, H, W, C_in) or points (B, N, C_in) to points (B, N, C)."""
        if (tokens.layout == "points") != self.moves:
            raise ArchitectureError(f"this round of progressive_sampling was not built for a {tokens.layout}")
        if self.moves:
            fmap, before, code = (tokens.carry[name] for name in self.gives)
            offset = self.offset(tokens.image).to(before.dtype)
            points, sampled_at = before + offset.detach(), before + self.gamma * offset
        else:
            fmap = self.proj(tokens.grid)
            points = sampled_at = self._centres(fmap)
            # The values of the linear at (0, 0), (1, 0) and (0, 1), from which later rounds compute it anywhere.
            code = self.position(torch.eye(3, 2, device=fmap.device, dtype=fmap.dtype).roll(1, 0))
        with without_autocast(fmap):
            sampled = sample_bilinear(fmap, sampled_at).to(fmap.dtype)
        h, w = fmap.shape[1:3]
        share = torch.stack((points[..., 0] / h, points[..., 1] / w), dim=-1).to(code.dtype)
        image = sampled + (share @ (code[1:] - code[:1]) + code[:1])
        image = tokens.image + image if self.moves else image
        carry = {**tokens.carry, "sampled_map": fmap, "points": points, "point_code": code}
        return Tokens(image, (image.shape[1], 1), layout="points", carry=carry)

    def cell_shares(self, tokens: Tokens, out: Tokens) -> Tensor:
        """The bilinear share of each position of the map in each point, which sum to 1: (B, N, H, W)."""
        fmap, points = out.carry["sampled_map"], out.carry["points"]
        sides = (torch.arange(n, device=points.device, dtype=points.dtype) for n in fmap.shape[1:3])
        rows, columns = (
            (1 - (points[..., i, None].clamp(0, len(at) - 1) - at).abs()).clamp(min=0) for i, at in enumerate(sides)
        )
        return rows[..., None] * columns[..., None, :]

    def _centres(self, fmap: Tensor) -> Tensor:
        """Centres (y, x) of n x n cells, column by column, in pixels: (B, n^2, 2), in float32 at least."""
        dtype = torch.promote_types(fmap.dtype, torch.float32)
        steps = (torch.arange(self.points, device=fmap.device, dtype=dtype) + 0.5) / self.points
        h, w = fmap.shape[1:3]
        y, x = (steps * h).repeat(self.points), (steps * w).repeat_interleave(self.points)
        return torch.stack((y, x), dim=-1).expand(fmap.shape[0], -1, -1)

    def out_size(self, size: Size) -> Size:
        """(n^2, 1); points stay as many."""
        return size if self.moves else (self.points**2, 1)

    def macs(self, size: Size, extra: int = 0) -> int:
        """2 n^2 C + 6 C in the first round, with H W C_in C if C_in is not C; 2 n^2 (C + C_in) in later ones."""
        count = self.out_size(size)[0]
        if self.moves:
            return 4 * count * self.dim
        proj = self.proj.weight.numel() if isinstance(self.proj, nn.Linear) else 0
        return 2 * count * self.dim + 6 * self.dim + size[0] * size[1] * proj
