"""TokenLearner and TokenFuser: a few learned tokens of many, and many again of the few."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.errors import ArchitectureError
from hexavit.parts.contract import PartModule, Size, Tokens
from hexavit.parts.layers import dropout, dropped
from hexavit.parts.registry import register_part


class Learner(PartModule):
    """Base of both TokenLearners: `weights(image, size)` gives S maps (B, S, N), with which the tokens are summed.

    The tokens before it travel in `carry`, if they are a raster, to a `token_fuser`.
    """

    makes = "set"
    gives = ("unpooled",)

    def __init__(self, in_dim: int, norm_eps: float, count: int) -> None:
        super().__init__()
        if count < 1:
            raise ValueError(f"count is at least 1, not {count}")
        self.count, self.out_dim = count, in_dim
        self.norm = nn.LayerNorm(in_dim, eps=norm_eps)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + N, C) to (B, P + S, C)."""
        image = tokens.image
        learned = self.weights(self.norm(image), tokens.size) @ image
        carry = dict(tokens.carry)
        if tokens.layout == "raster":
            carry["unpooled"] = image.unflatten(1, tokens.size)
        return Tokens(learned, (self.count, 1), extra=tokens.extra, layout="set", carry=carry)

    def cell_shares(self, tokens: Tokens, out: Tokens) -> Tensor:
        """The share of each position in each token, which sum to 1: (B, S, H, W) for a raster that came in."""
        maps = self.weights(self.norm(tokens.image), tokens.size)
        shares: Tensor = (maps / maps.sum(dim=2, keepdim=True)).unflatten(2, tokens.size)
        return shares

    def weights(self, image: Tensor, size: Size) -> Tensor:
        """Normed tokens (B, N, C) to maps (B, S, N)."""
        raise NotImplementedError

    def out_size(self, size: Size) -> Size:
        """(S, 1)."""
        return self.count, 1


@register_part("tokens", "token_learner")
class TokenLearner(Learner):
    """TokenLearner, version 1.1: S learned tokens instead of N (the authors' code of Ryoo et al., "TokenLearner: What
    Can 8 Learned Tokens Do for Images and Videos?", NeurIPS 2021).

    New in it: token s is the mean of all tokens x, weighed by softmax over the N positions of map s, and the S maps are
    linear(gelu(linear(norm(x)))) with `hidden` values between. Later blocks cost S / N as much. Extra tokens pass.

    Shapes: (B, P + N, C) to (B, P + S, C), a set. Cost with R = `hidden`: parameters 2 C + C R + R + R S + S;
    multiply-adds N (C R + R S + S C).
    Same as google-research/scenic's `TokenLearnerModuleV11` (the tanh form of GELU), which has no extra tokens.

    Raises:
        ValueError: fewer than 1 token, or no hidden value.
    """

    def __init__(self, in_dim: int, norm_eps: float, *, count: int = 8, hidden: int = 64) -> None:
        super().__init__(in_dim, norm_eps, count)
        if hidden < 1:
            raise ValueError(f"hidden is at least 1, not {hidden}")
        self.fc1, self.fc2 = nn.Linear(in_dim, hidden), nn.Linear(hidden, count)

    def weights(self, image: Tensor, size: Size) -> Tensor:
        """(B, N, C) to maps (B, S, N) whose rows sum to 1."""
        maps: Tensor = self.fc2(F.gelu(self.fc1(image), approximate="tanh"))
        return maps.softmax(dim=1).transpose(-2, -1)

    def macs(self, size: Size, extra: int = 0) -> int:
        """N (C R + R S + S C)."""
        n, dim = size[0] * size[1], self.fc1.in_features
        return n * (self.fc1.weight.numel() + self.fc2.weight.numel() + self.count * dim)


@register_part("tokens", "token_learner_v1")
class TokenLearnerV1(Learner):
    """TokenLearner, version 1.0: as `token_learner`, with the maps from convolutions (Ryoo et al., NeurIPS 2021,
    section 2.1).

    The S maps are sigmoid(conv(gelu(conv(gelu(conv(gelu(conv(norm(x)))))))), 3 x 3 without bias, S channels each. Token
    s is the sum over all positions of map s times x, or with `mean` the mean. Extra tokens pass.

    Shapes: (B, P + H W, C) to (B, P + S, C), a set. Cost: parameters 2 C + 9 C S + 27 S^2; multiply-adds
    N (9 C S + 27 S^2 + S C).
    Same as google-research/scenic's `TokenLearnerModule`, which takes square maps alone.

    Raises:
        ValueError: fewer than 1 token.
    """

    needs = "raster"
    reads_grid = True

    def __init__(self, in_dim: int, norm_eps: float, *, count: int = 8, mean: bool = False) -> None:
        super().__init__(in_dim, norm_eps, count)
        self.mean = mean
        widths = (in_dim, *(count,) * 3)
        self.convs = nn.ModuleList(nn.Conv2d(width, count, 3, padding=1, bias=False) for width in widths)

    def weights(self, image: Tensor, size: Size) -> Tensor:
        """(B, N, C) to maps (B, S, N) with values in (0, 1), over N if their mean is asked for."""
        x = image.unflatten(1, size).permute(0, 3, 1, 2)
        for k, conv in enumerate(self.convs):
            x = conv(x if k == 0 else F.gelu(x, approximate="tanh"))
        maps: Tensor = x.sigmoid().flatten(2)
        return maps / maps.shape[2] if self.mean else maps

    def macs(self, size: Size, extra: int = 0) -> int:
        """N (9 C S + 27 S^2 + S C)."""
        weights = sum(conv.weight.numel() for conv in self.convs.children() if isinstance(conv, nn.Conv2d))
        return size[0] * size[1] * (weights + self.count * self.norm.normalized_shape[0])


@register_part("tokens", "token_fuser")
class TokenFuser(PartModule):
    """TokenFuser: learned tokens back to the raster that they were learned of (Ryoo et al., NeurIPS 2021, section 2.2).

    New in it: with y the S tokens that come in and x the N tokens before the last `token_learner`,
    z = norm(W norm(y) + b) with W over the axis of the tokens, and x + dropout(sigmoid(mlp(norm(x))) z), where the mlp
    has `hidden` values between and S weights for each of the N tokens. W starts at 0. Extra tokens pass.

    Args:
        in_dim: C.
        size: grid of the tokens that come in: S tokens.
        grid: grid (H, W) of the last raster.
        norm_eps: epsilon of the norms.
        hidden: R.
        norms: whether y is normed before and behind W.
        drop: dropout of what is added to x.

    Shapes: (B, P + S, C) to (B, P + H W, C), a raster. Cost: parameters S^2 + S + C R + R + R S + S + 6 C (2 C without
    `norms`); multiply-adds S^2 C + N (C R + R S + S C).
    Same as google-research/scenic's `TokenFuser` with x added, as its encoder does. A part of a stage without blocks,
    if another learner follows.

    Raises:
        ValueError: no hidden value.
        ArchitectureError: on a call, learned tokens of what was no raster.
    """

    makes = "raster"
    takes = ("unpooled",)
    starts_at_zero = ("mix",)

    def __init__(
        self,
        in_dim: int,
        size: Size,
        grid: Size,
        norm_eps: float,
        *,
        hidden: int = 64,
        norms: bool = True,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        if hidden < 1:
            raise ValueError(f"hidden is at least 1, not {hidden}")
        count = size[0] * size[1]
        self.grid, self.count, self.out_dim = grid, count, in_dim
        self.norm1 = nn.LayerNorm(in_dim, eps=norm_eps) if norms else nn.Identity()
        self.mix = nn.Linear(count, count)
        self.norm2 = nn.LayerNorm(in_dim, eps=norm_eps) if norms else nn.Identity()
        self.norm3 = nn.LayerNorm(in_dim, eps=norm_eps)
        self.fc1, self.fc2 = nn.Linear(in_dim, hidden), nn.Linear(hidden, count)
        self.drop = dropout(drop)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + S, C) to (B, P + H W, C)."""
        before = tokens.carry.get("unpooled")
        if before is None:
            raise ArchitectureError("token_fuser gives the raster before a token_learner, and there was none")
        x = before.flatten(1, 2)
        learned = self.norm2(self.mix(self.norm1(tokens.image).transpose(-2, -1)).transpose(-2, -1))
        weights = self.fc2(F.gelu(self.fc1(self.norm3(x)), approximate="tanh")).sigmoid()
        size = (before.shape[1], before.shape[2])
        return Tokens(x + dropped(weights @ learned, self.drop), size, extra=tokens.extra, carry=tokens.carry)

    def out_size(self, size: Size) -> Size:
        """The grid of the raster."""
        return self.grid

    def set_grid(self, grid: Size) -> None:
        """The grid of the raster, for another image size."""
        self.grid = grid

    def macs(self, size: Size, extra: int = 0) -> int:
        """S^2 C + N (C R + R S + S C)."""
        n, dim = self.grid[0] * self.grid[1], self.fc1.in_features
        each = self.fc1.weight.numel() + self.fc2.weight.numel() + self.count * dim
        return self.count**2 * dim + n * each
