"""The residual of convolutional networks: an activation after the sum, and no norm before the branch."""

from __future__ import annotations

from torch import Tensor, nn

from hexavit.parts.attention.bottleneck import as_column, as_rows, divided
from hexavit.parts.contract import Size, Tokens, rows
from hexavit.parts.layers import activation
from hexavit.parts.registry import register_part
from hexavit.parts.residual.norms import Branch, Residual


@register_part("residual", "post_act")
class PostActivation(Residual):
    """act(skip(x) + branch(x)), an activation after the sum (ResNet: He et al., CVPR 2016, section 3.2, eq. 1 and 2).

    The skip is x; where the branch changes the width or the grid, it is a 1x1 convolution with the branch's stride,
    then batch norm. Norms are inside the branch, as in `conv_bottleneck` and `bottleneck`.

    Args:
        dim: width C of x.
        stride: how many times smaller the branch's grid is.
        norm_eps: not used: batch norms have 1e-5.
        drop_path: rate of stochastic depth.
        out_dim: width C' of the branch.
        act: activation, as `mlp` has it.
        stochastic_depth: False for a branch that is never dropped.

    Shapes: (B, M, C) to the same, or to (B, M', C'). Cost: none, or where it projects parameters C C' + 2 C' and
    multiply-adds M' C C'.

    Raises:
        ValueError: an unknown activation.
    """

    def __init__(
        self,
        dim: int,
        stride: int,
        norm_eps: float,
        drop_path: float,
        out_dim: int | None = None,
        *,
        act: str = "relu",
        stochastic_depth: bool = True,
    ) -> None:
        super().__init__(dim, 1, norm_eps, drop_path if stochastic_depth else 0.0, norm=None)
        self.step, self.act = stride, activation(act)
        out_dim = out_dim or dim
        self.reads_grid = stride > 1
        self.skip, self.skip_norm = None, None
        if stride > 1 or out_dim != dim:
            self.skip, self.skip_norm = nn.Conv2d(dim, out_dim, 1, bias=False), nn.BatchNorm2d(out_dim)

    def forward(self, tokens: Tokens, branch: Branch) -> Tokens:
        """x to act(skip(x) + branch(x))."""
        return self.add(self._skip(tokens), branch(tokens)).each(self.act)

    def _skip(self, tokens: Tokens) -> Tokens:
        if self.step > 1:
            grid = tokens.grid[:, :: self.step, :: self.step]
            tokens = tokens.with_image(grid.flatten(1, 2), (grid.shape[1], grid.shape[2]))
        return tokens if self.skip is None else tokens.join().each(self._project)

    def _project(self, x: Tensor) -> Tensor:
        assert self.skip is not None  # it projects
        assert self.skip_norm is not None
        return as_rows(self.skip_norm(self.skip(as_column(x))))

    def macs(self, size: Size, extra: int = 0) -> int:
        """M' C C' where it projects."""
        return 0 if self.skip is None else rows(divided(size, self.step), extra) * self.skip.weight.numel()
