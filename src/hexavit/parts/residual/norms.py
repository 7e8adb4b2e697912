"""Residuals with a norm: before the branch, behind it, or after the sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.errors import nearest
from hexavit.parts.contract import PartModule, Size, Tokens, rows
from hexavit.parts.layers import DropPath
from hexavit.parts.registry import register_part

Branch = Callable[[Tokens], Tokens]
Norm = Literal["layer", "batch"]


class Residual(PartModule):
    """Base of the residuals: the norm, the skip and the sum around one branch.

    If the branch's grid is `stride` times smaller (queries with a stride), the skip is max-pooled to it: in windows of
    stride x stride that are cut at the border, or with an odd `pool_kernel` in padded windows of that side (MViT: Fan
    et al., ICCV 2021, section 3.2).
    """

    reads_source: ClassVar[bool] = False
    """Whether `forward` takes other tokens for the branch to read, as a parallel branch needs."""

    stage_norm: bool = False
    """Whether a LayerNorm follows the last block of the stage. An option may set it."""

    def __init__(
        self,
        dim: int,
        stride: int,
        norm_eps: float,
        drop_path: float,
        *,
        norm: Norm | None = "layer",
        pool_kernel: int = 0,
    ) -> None:
        super().__init__()
        if norm is not None and norm not in get_args(Norm):
            raise ValueError(f"there is no norm {norm!r}: {nearest(norm, get_args(Norm))}")
        if pool_kernel and pool_kernel % 2 == 0:
            raise ValueError(f"pool_kernel is odd, or 0 for windows of the stride, not {pool_kernel}")
        self.stride, self.pool_kernel, self.batch = stride, pool_kernel, norm == "batch"
        self.norm: nn.Module = nn.Identity()
        if norm is not None:
            self.norm = (nn.BatchNorm2d if self.batch else nn.LayerNorm)(dim, eps=norm_eps)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tokens, branch: Branch) -> Tokens:
        """Compute the sum.

        Args:
            tokens: the tokens x that come in.
            branch: a function of tokens: the attention or the feedforward.
        """
        raise NotImplementedError

    def normed(self, tokens: Tokens) -> Tokens:
        """Apply the norm to all tokens; a batch norm counts image and extra tokens together."""
        if not self.batch:
            return tokens.each(self.norm)
        # As a map (B, C, M, 1) in channels-last memory, for which PyTorch's batch norm is fastest.
        return tokens.join().each(lambda x: self.norm(x.transpose(-2, -1).unsqueeze(3)).squeeze(3).transpose(-2, -1))

    def init_branch(self, branch: nn.Module, count: int) -> None:
        """Change the starting weights of the module in the branch; `count` branches have this kind of residual."""

    def add(self, skip: Tokens, branch: Tokens) -> Tokens:
        """skip + drop_path(branch), with the skip pooled if the branch has a smaller grid."""
        if (mask := self.drop_path.mask(branch.body)) is not None:
            branch = branch.each(lambda x: x * mask)
        if self.stride > 1:
            kernel = self.pool_kernel or self.stride
            pooled = F.max_pool2d(skip.map, kernel, self.stride, self.pool_kernel // 2, ceil_mode=not self.pool_kernel)
            skip = skip.with_image(pooled.permute(0, 2, 3, 1).flatten(1, 2), branch.size)
        return skip.plus(branch)


@register_part("residual", "pre_norm")
class PreNorm(Residual):
    """x + gamma branch(norm(s x)) / s: the norm before the branch (ViT: Dosovitskiy et al., ICLR 2021, eq. 2 and 3).

    Where the branch widens the tokens from C to C', the skip is a linear of the normed input: W norm(x) + b (MViTv2: Li
    et al., CVPR 2022, section 3.2).

    Args:
        dim: C.
        stride: how many times smaller the branch's grid is.
        norm_eps: epsilon of the norm.
        drop_path: rate of stochastic depth.
        out_dim: C'.
        norm: `layer`, `batch` (over all tokens of all images: Shuffle Transformer, Huang et al., 2021), or None.
        stochastic_depth: False for a branch that is never dropped.
        layer_scale: starting value of gamma, a learned vector (CaiT: Touvron et al., ICCV 2021, eq. 4); without it
            gamma is 1 / `skip_lam`.
        skip_lam: 1, 2 or 3 in LV-ViT (Jiang et al., NeurIPS 2021).
        block_scale: s (DeepViT-S and -L: 0.5; inside the norm s changes the result through eps only).
        stage_norm: a LayerNorm follows the last block of the stage (PVT v2: Wang et al., CVM 2022); the head then needs
            none.
        pool_kernel: side of the windows in which the skip is pooled, 0 for that of the stride.

    Shapes: (B, M, C) to the same, or to (B, M', C'). Cost: parameters 2 C (0 without a norm), and C with
    `layer_scale`, 2 C' a stage with `stage_norm`, (C + 1) C' where it widens, which costs M C C' multiply-adds.

    Raises:
        ValueError: a scale of 0 or less, an unknown norm, an even `pool_kernel`.
    """

    no_decay = ("gamma",)
    reads_source = True

    def __init__(
        self,
        dim: int,
        stride: int,
        norm_eps: float,
        drop_path: float,
        out_dim: int | None = None,
        *,
        norm: Norm | None = "layer",
        stochastic_depth: bool = True,
        layer_scale: float | None = None,
        skip_lam: float = 1.0,
        block_scale: float = 1.0,
        stage_norm: bool = False,
        pool_kernel: int = 0,
    ) -> None:
        rate = drop_path if stochastic_depth else 0.0
        super().__init__(dim, stride, norm_eps, rate, norm=norm, pool_kernel=pool_kernel)
        self.stage_norm = stage_norm
        if skip_lam <= 0 or block_scale <= 0:
            raise ValueError(f"skip_lam and block_scale must be above 0, not {skip_lam} and {block_scale}")
        out_dim = out_dim or dim
        scales = block_scale, 1 / (block_scale * skip_lam)
        self.before, self.after = (None if scale == 1 else scale for scale in scales)
        self.gamma = None if layer_scale is None else nn.Parameter(torch.full((out_dim,), float(layer_scale)))
        self.skip = None if out_dim == dim else nn.Linear(dim, out_dim)

    def forward(self, tokens: Tokens, branch: Branch, source: Tokens | None = None) -> Tokens:
        """Compute the sum.

        Args:
            tokens: the tokens x to which the branch is added.
            branch: the attention or the feedforward.
            source: what the branch reads, if it is not x.
        """
        read, before = source or tokens, self.before
        normed = self.normed(read if before is None else read.each(lambda x: x * before))
        skip = tokens if self.skip is None else normed.each(self.skip)
        out = branch(normed)
        return self.add(skip, out if self.after is None and self.gamma is None else out.each(self._scaled))

    def _scaled(self, x: Tensor) -> Tensor:
        x = x if self.after is None else x * self.after
        return x if self.gamma is None else x * self.gamma

    def macs(self, size: Size, extra: int = 0) -> int:
        """M C C' where the width changes."""
        return 0 if self.skip is None else rows(size, extra) * self.skip.in_features * self.skip.out_features


@register_part("residual", "extra_only")
class ExtraOnly(PreNorm):
    """Pre-norm that updates the extra tokens only (CaiT: Touvron et al., ICCV 2021, section 3, eq. 8).

    The attention reads all tokens, normed; the feedforward reads the extra tokens only. Image tokens do not change.

    Shapes: (B, P + N, C) to the same, image tokens unchanged. Cost: as `pre_norm`.
    """

    reads_grid = True  # extra and image tokens are read apart
    needs_extra = True
    keeps_image = True
    reads_source = False

    def __init__(
        self, dim: int, stride: int, norm_eps: float, drop_path: float, role: str, *, layer_scale: float | None = None
    ) -> None:
        super().__init__(dim, stride, norm_eps, drop_path, layer_scale=layer_scale)
        self.role = role

    def forward(self, tokens: Tokens, branch: Branch, source: Tokens | None = None) -> Tokens:
        """Extra tokens x to x + gamma branch(norm(x))."""
        extra = tokens.extra
        assert extra is not None  # `needs_extra`
        alone = Tokens(extra, (extra.shape[1], 1), layout="set")
        if self.role == "feedforward":
            return tokens.replace_extra(super().forward(alone, branch).image)
        read = branch(self.normed(tokens))
        out = read.extra
        assert out is not None
        added = self.add(alone, Tokens(self._scaled(out), alone.size, layout="set"))
        return tokens.replace_extra(added.image).with_carry(**read.carry)


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
        super().__init__(dim, stride, norm_eps, drop_path, norm=None if bare else "layer", stochastic_depth=not bare)


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
        return self.normed(self.add(tokens, branch(tokens)))


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
        self,
        dim: int,
        stride: int,
        norm_eps: float,
        drop_path: float,
        role: str,
        *,
        norm: Norm | None = "layer",
        extra_norm: bool = False,
        pool_kernel: int = 0,
    ) -> None:
        super().__init__(dim, stride, norm_eps, drop_path, norm=norm, pool_kernel=pool_kernel)
        for weight in self.norm.parameters():
            nn.init.zeros_(weight)
        self.extra_norm = nn.LayerNorm(dim, eps=norm_eps) if extra_norm and role == "feedforward" else None

    def forward(self, tokens: Tokens, branch: Branch) -> Tokens:
        """x to x + norm(branch(x))."""
        out = self.add(tokens, self.normed(branch(tokens)))
        return out if self.extra_norm is None else out.each(self.extra_norm)
