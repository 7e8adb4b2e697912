"""Residuals whose branch is scaled by one learned number."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hexavit.parts.contract import Tokens
from hexavit.parts.layers import HeadMixing
from hexavit.parts.registry import register_part
from hexavit.parts.residual.norms import Branch, Residual


class ScaledBranch(Residual):
    """Base of these residuals: x + alpha branch(norm(x)), with one learned number alpha for each branch."""

    start = 0.0

    def __init__(self, dim: int, stride: int, norm_eps: float, drop_path: float) -> None:
        super().__init__(dim, stride, norm_eps, drop_path)
        self.alpha = nn.Parameter(torch.full((1,), self.start))

    def forward(self, tokens: Tokens, branch: Branch) -> Tokens:
        """x to x + alpha branch(norm(x))."""
        return self.add(tokens, branch(tokens.each(self.before)).each(self.scaled))

    def before(self, x: Tensor) -> Tensor:
        """What the branch reads."""
        normed: Tensor = self.norm(x)
        return normed

    def scaled(self, x: Tensor) -> Tensor:
        """What is added of a branch."""
        return x * self.alpha


@register_part("residual", "skipinit")
class SkipInit(ScaledBranch):
    """x + alpha branch(norm(x)), with a learned number alpha that starts at 0 (De & Smith, NeurIPS 2020).

    Every block starts as the identity. With the norm, as CaiT compares it (Touvron et al., ICCV 2021, figure 2c).

    Shapes: (B, M, C) to the same. Cost: parameters 2 C + 1; multiply-adds not counted.
    Differs from layer scale (`pre_norm(layer_scale=...)`), which learns a number for each channel and starts above 0.
    """


@register_part("residual", "rezero")
class ReZero(ScaledBranch):
    """x + alpha branch(x), with a learned number alpha that starts at 0 (Bachlechner et al., UAI 2021, eq. 2).

    `skipinit` without the norm.

    Shapes: (B, M, C) to the same. Cost: parameters 1; multiply-adds not counted.
    """

    def __init__(self, dim: int, stride: int, norm_eps: float, drop_path: float) -> None:
        super().__init__(dim, stride, norm_eps, drop_path)
        self.norm = nn.Identity()


@register_part("residual", "fixup")
class Fixup(ReZero):
    """x + alpha branch(x + b) + c, with learned numbers: alpha starts at 1, b and c at 0 (Zhang et al., ICLR 2019).

    Shapes: (B, M, C) to the same. Cost: parameters 3; multiply-adds not counted.
    After the architecture's `init`, the branch's weights are changed by the paper's rule (section 3): its last weights
    become 0, and the others are scaled by L^(-1 / (2 m - 2)), for L branches of this kind in the model and m weights
    that a value passes in the branch. Each block then starts as the identity. Differs from the paper: one b for each
    branch, not one before every layer, and the classifier starts as `init` says, not at 0.
    """

    start = 1.0

    def __init__(self, dim: int, stride: int, norm_eps: float, drop_path: float) -> None:
        super().__init__(dim, stride, norm_eps, drop_path)
        self.bias_before = nn.Parameter(torch.zeros(1))
        self.bias_after = nn.Parameter(torch.zeros(1))

    def before(self, x: Tensor) -> Tensor:
        """x + b."""
        return x + self.bias_before

    def scaled(self, x: Tensor) -> Tensor:
        """alpha x + c."""
        return x * self.alpha + self.bias_after

    @torch.no_grad()
    def init_branch(self, branch: nn.Module, count: int) -> None:
        """Zero the last weights of the branch and scale the others."""
        layers = {name: m for name, m in branch.named_modules() if isinstance(m, nn.Linear | nn.Conv2d | HeadMixing)}
        named = getattr(branch, "last", None)
        last = layers.get(named) if named else next(reversed(layers.values()), None)
        in_a_row = getattr(branch, "weights_in_a_row", 2)
        for layer in layers.values():
            if layer is last:
                nn.init.zeros_(layer.weight)
            elif in_a_row > 1:
                layer.weight.mul_(count ** (-1 / (2 * in_a_row - 2)))
