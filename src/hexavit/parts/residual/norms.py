"""Where the norm stands: before the branch, or after the sum."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.parts.contract import PartModule, Tokens
from hexavit.parts.layers import DropPath
from hexavit.parts.registry import register_part

Branch = Callable[[Tokens], Tokens]


class Residual(PartModule):
    """Base of the residual shelf: owns the norm, the skip and the sum around one branch.

    A branch that comes back on a grid `stride` times smaller (queries with a stride) is added to a skip that is
    max-pooled to it, in windows of stride x stride, the last ones cut at the border (after MViT, Fan et al., 2021).
    """

    def __init__(self, dim: int, stride: int, norm_eps: float, drop_path: float) -> None:
        super().__init__()
        self.stride = stride
        self.norm = nn.LayerNorm(dim, eps=norm_eps)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tokens, branch: Branch) -> Tokens:
        """Tokens and the branch around which it stands to their sum."""
        raise NotImplementedError

    def add(self, skip: Tokens, branch: Tokens) -> Tokens:
        """skip + drop_path(branch), the skip pooled where the branch is smaller."""
        mask = self.drop_path.mask(branch.image)
        if mask is not None:
            branch = branch.each(lambda x: x * mask)
        if self.stride > 1:
            pooled = F.max_pool2d(skip.map, self.stride, self.stride, ceil_mode=True)
            skip = skip.with_image(pooled.permute(0, 2, 3, 1).flatten(1, 2), branch.size)
        return skip.plus(branch)


@register_part("residual", "pre_norm")
class PreNorm(Residual):
    """x + gamma branch(norm(x)): the norm before the branch (ViT: Dosovitskiy et al., ICLR 2021, eq. 2 and 3).

    `layer_scale` is the starting value of gamma, a learned vector (CaiT: Touvron et al., ICCV 2021, eq. 4); without it
    gamma is 1.

    Shapes: (B, M, C) to the same. Cost: parameters 2 C, and C with `layer_scale`; multiply-adds not counted.
    """

    no_decay = ("gamma",)

    def __init__(
        self, dim: int, stride: int, norm_eps: float, drop_path: float, *, layer_scale: float | None = None
    ) -> None:
        super().__init__(dim, stride, norm_eps, drop_path)
        self.gamma = None if layer_scale is None else nn.Parameter(torch.full((dim,), layer_scale))

    def forward(self, tokens: Tokens, branch: Branch) -> Tokens:
        """x to x + gamma branch(norm(x))."""
        out = branch(tokens.each(self.norm))
        return self.add(tokens, out if self.gamma is None else out.each(self._scaled))

    def _scaled(self, x: Tensor) -> Tensor:
        assert self.gamma is not None
        return x * self.gamma


@register_part("residual", "post_norm")
class PostNorm(Residual):
    """norm(x + branch(x)): the original Transformer's (Vaswani et al., 2017, section 3.1).

    The stream is normed after every sum, so nothing is left to norm before the head (`norm=False` there); deep stacks
    want a warm-up (Xiong et al., ICML 2020).

    Shapes: (B, M, C) to the same. Cost: parameters 2 C; multiply-adds not counted.
    Differs from Swin V2's residual-post-norm, which norms the branch alone.
    """

    def forward(self, tokens: Tokens, branch: Branch) -> Tokens:
        """x to norm(x + branch(x))."""
        return self.add(tokens, branch(tokens)).each(self.norm)
