"""Branches scaled by learned numbers, the family of which layer scale is the one by channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hexavit.parts.contract import Tokens
from hexavit.parts.registry import register_part
from hexavit.parts.residual.norms import Branch, Residual


class ScaledBranch(Residual):
    """Base of the family: x + alpha branch(norm(x)), alpha one learned number a branch."""

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
    """x + alpha branch(norm(x)), alpha one learned number that starts at 0 (De & Smith, NeurIPS 2020).

    Every block starts as the identity. With the norm, as CaiT compares it (Touvron et al., ICCV 2021, figure 2c).

    Shapes: (B, M, C) to the same. Cost: parameters 2 C + 1; multiply-adds not counted.
    Differs from layer scale (`pre_norm(layer_scale=...)`), which learns a number a channel and starts above 0.
    """


@register_part("residual", "rezero")
class ReZero(ScaledBranch):
    """x + alpha branch(x), alpha one learned number that starts at 0 (Bachlechner et al., UAI 2021, eq. 2).

    As `skipinit` without the norm.

    Shapes: (B, M, C) to the same. Cost: parameters 1; multiply-adds not counted.
    """

    def __init__(self, dim: int, stride: int, norm_eps: float, drop_path: float) -> None:
        super().__init__(dim, stride, norm_eps, drop_path)
        self.norm = nn.Identity()


@register_part("residual", "fixup")
class Fixup(ReZero):
    """x + alpha branch(x + b) + c with learned numbers, alpha from 1, b and c from 0 (Zhang et al., ICLR 2019).

    Shapes: (B, M, C) to the same. Cost: parameters 3; multiply-adds not counted.
    The branch's weights start by the paper's rule, on top of the architecture's `init`: the last ones zero, those
    before scaled down by the number of branches (`hexavit.network.initialisation`). Differs from the paper: one b a
    branch, not one before every layer, and the classifier starts as `init` draws it, not at zero.
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
