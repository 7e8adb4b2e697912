"""Residuals with a norm: before the branch, behind it, or after the sum."""

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
    """Base of the residuals: the norm, the skip and the sum around one branch.

    If the branch's grid is `stride` times smaller (queries with a stride), the skip is max-pooled to it, in windows of
    stride x stride that are cut at the border (after MViT: Fan et al., ICCV 2021).
    """

    stage_norm: bool = False
    """Whether a LayerNorm follows the last block of the stage. An option may set it."""

    def __init__(self, dim: int, stride: int, norm_eps: float, drop_path: float) -> None:
        super().__init__()
        self.stride = stride
        self.norm: nn.Module = nn.LayerNorm(dim, eps=norm_eps)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tokens, branch: Branch) -> Tokens:
        """Compute the sum.

        Args:
            tokens: the tokens x that come in.
            branch: a function of tokens: the attention or the feedforward.
        """
        raise NotImplementedError

    def init_branch(self, branch: nn.Module, count: int) -> None:
        """Change the starting weights of the module in the branch; `count` branches have this kind of residual."""

    def add(self, skip: Tokens, branch: Tokens) -> Tokens:
        """skip + drop_path(branch), with the skip pooled if the branch has a smaller grid."""
        mask = self.drop_path.mask(branch.image)
        if mask is not None:
            branch = branch.each(lambda x: x * mask)
        if self.stride > 1:
            pooled = F.max_pool2d(skip.map, self.stride, self.stride, ceil_mode=True)
            skip = skip.with_image(pooled.permute(0, 2, 3, 1).flatten(1, 2), branch.size)
        return skip.plus(branch)


@register_part("residual", "pre_norm")
class PreNorm(Residual):
    """x + gamma branch(norm(s x)) / s: the norm before the branch (ViT: Dosovitskiy et al., ICLR 2021, eq. 2 and 3).

    Options:
    `layer_scale`: starting value of gamma, a learned vector (CaiT: Touvron et al., ICCV 2021, eq. 4); without it gamma
    is 1 / `skip_lam`;
    `skip_lam`: 1, 2 or 3 in LV-ViT (Jiang et al., NeurIPS 2021);
    `block_scale`: s (DeepViT-S and -L: 0.5; inside the norm s changes the result through eps only);
    `stage_norm`: a LayerNorm follows the last block of the stage (PVT v2: Wang et al., CVM 2022); the head then needs
    none.

    Shapes: (B, M, C) to the same. Cost: parameters 2 C, and C with `layer_scale`, and 2 C a stage with `stage_norm`;
    multiply-adds not counted.

    Raises:
        ValueError: a scale of 0 or less.
    """

    no_decay = ("gamma",)

    def __init__(
        self,
        dim: int,
        stride: int,
        norm_eps: float,
        drop_path: float,
        *,
        layer_scale: float | None = None,
        skip_lam: float = 1.0,
        block_scale: float = 1.0,
        stage_norm: bool = False,
    ) -> None:
        super().__init__(dim, stride, norm_eps, drop_path)
        self.stage_norm = stage_norm
        if skip_lam <= 0 or block_scale <= 0:
            raise ValueError(f"skip_lam and block_scale must be above 0, not {skip_lam} and {block_scale}")
        self.before, self.after = block_scale, 1 / (block_scale * skip_lam)
        self.gamma = None if layer_scale is None else nn.Parameter(torch.full((dim,), float(layer_scale)))

    def forward(self, tokens: Tokens, branch: Branch) -> Tokens:
        """x to x + gamma branch(norm(x))."""
        return self.add(tokens, branch(tokens.each(self._normed)).each(self._scaled))

    def _normed(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x if self.before == 1 else x * self.before)
        return normed

    def _scaled(self, x: Tensor) -> Tensor:
        x = x if self.after == 1 else x * self.after
        return x if self.gamma is None else x * self.gamma


@register_part("residual", "extra_only")
class ExtraOnly(PreNorm):
    """Pre-norm that updates the extra tokens only (CaiT: Touvron et al., ICCV 2021, section 3, eq. 8).

    The attention reads all tokens, normed; the feedforward reads the extra tokens only. Image tokens do not change.

    Shapes: (B, P + N, C) to the same, image tokens unchanged. Cost: as `pre_norm`.
    """

    reads_grid = True  # extra and image tokens are read apart
    needs_extra = True
    keeps_image = True

    def __init__(
        self, dim: int, stride: int, norm_eps: float, drop_path: float, role: str, *, layer_scale: float | None = None
    ) -> None:
        super().__init__(dim, stride, norm_eps, drop_path, layer_scale=layer_scale)
        self.role = role

    def forward(self, tokens: Tokens, branch: Branch) -> Tokens:
        """Extra tokens x to x + gamma branch(norm(x))."""
        extra = tokens.extra
        assert extra is not None  # `needs_extra`
        alone = Tokens(extra, (extra.shape[1], 1), layout="set")
        if self.role == "feedforward":
            return tokens.replace_extra(super().forward(alone, branch).image)
        out = branch(tokens.each(self._normed)).extra
        assert out is not None
        return tokens.replace_extra(self.add(alone, Tokens(self._scaled(out), alone.size, layout="set")).image)


@register_part("residual", "local")
class LocalResidual(PreNorm):
    """Pre-norm around the attention; x + branch(x) around the feedforward, without norm and drop path
    (LocalViT: Li et al., 2021, eq. 6).

    Shapes: (B, M, C) to the same. Cost: parameters 2 C around the attention, none around the feedforward.
    Same as ofsoundof/LocalViT, where the sum is inside the feedforward and excludes the class token: here that is the
    feedforward's option `extra=zero`.
    """

    def __init__(self, dim: int, stride: int, norm_eps: float, drop_path: float, role: str) -> None:
        bare = role == "feedforward"
        super().__init__(dim, stride, norm_eps, 0.0 if bare else drop_path)
        if bare:
            self.norm = nn.Identity()


@register_part("residual", "post_norm")
class PostNorm(Residual):
    """norm(x + branch(x)): the original Transformer's (Vaswani et al., 2017, section 3.1).

    The head needs no norm (`norm=False`), since the norm follows every sum. Deep models need a warm-up (Xiong et al.,
    ICML 2020).

    Shapes: (B, M, C) to the same. Cost: parameters 2 C; multiply-adds not counted.
    Differs from Swin V2's `res_post_norm`, which norms the branch alone.
    """

    def forward(self, tokens: Tokens, branch: Branch) -> Tokens:
        """x to norm(x + branch(x))."""
        return self.add(tokens, branch(tokens)).each(self.norm)


@register_part("residual", "res_post_norm")
class ResidualPostNorm(Residual):
    """x + norm(branch(x)): the norm behind the branch, inside the residual (Swin V2: Liu et al., CVPR 2022, section
    3.2).

    New in it: the norm bounds what each block adds, so activations do not grow with depth. The norm's weight and bias
    start at 0, so each block starts as the identity. `extra_norm` adds a LayerNorm after the sum around the
    feedforward: the largest models have it in every sixth block.

    Shapes: (B, M, C) to the same. Cost: parameters 2 C, with `extra_norm` 2 C more around the feedforward;
    multiply-adds not counted.
    Same as microsoft/Swin-Transformer's V2, whose code has no extra norm: its place is from the paper.
    """

    def __init__(
        self, dim: int, stride: int, norm_eps: float, drop_path: float, role: str, *, extra_norm: bool = False
    ) -> None:
        super().__init__(dim, stride, norm_eps, drop_path)
        nn.init.zeros_(self.norm.weight)  # type: ignore[arg-type]  # a LayerNorm
        nn.init.zeros_(self.norm.bias)  # type: ignore[arg-type]
        self.extra_norm = nn.LayerNorm(dim, eps=norm_eps) if extra_norm and role == "feedforward" else None

    def forward(self, tokens: Tokens, branch: Branch) -> Tokens:
        """x to x + norm(branch(x))."""
        out = self.add(tokens, branch(tokens).each(self.norm))
        return out if self.extra_norm is None else out.each(self.extra_norm)
