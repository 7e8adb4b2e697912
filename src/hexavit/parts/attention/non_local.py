"""Non-local blocks: one-head attention over a map, with four pairwise functions and sub-sampled keys."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.errors import nearest
from hexavit.parts.attention.base import Attention, Scale, attention_scale
from hexavit.parts.attention.places import KeyGrid, Weights, kernel_shares
from hexavit.parts.contract import Size, Tokens, rows
from hexavit.parts.layers import known
from hexavit.parts.registry import register_part

Pairwise = Literal["embedded_gaussian", "gaussian", "dot_product", "concatenation"]
SubSample = Literal["before", "after"]


@register_part("attention", "non_local")
class NonLocal(Attention):
    """Non-local operation (Wang et al., CVPR 2018, eq. 1 to 6): all-to-all attention with one head, and a batch norm.

    y_i = sum_j a_ij g_j, out = BatchNorm(W y), with theta, phi, g linears C -> c of the tokens and a_ij by `pairwise`.
    The batch norm's scale (without a norm W and its bias) starts at 0, so the block starts as the identity. The
    paper's block is a branch of its own without a norm before it: `stages.2.block=(attention, feedforward, non_local)`
    with `stages.2.block.non_local.residual=pre_norm(norm=none)`. Extra tokens are queries and keys too, and are not
    pooled.

    Shapes: (B, P + N, C) to the same. Cost with Q = P + N queries, M keys (P + floor(H / 2) floor(W / 2) sub-sampled)
    and S the tokens that phi and g read (M with `before`, else Q): parameters 4 C c + 3 c + C and 2 C with a norm
    (`gaussian` 2 C c + 2 c fewer, `concatenation` 2 c more); multiply-adds 2 (Q + S) C c + 2 Q M c. The pairs cost
    Q M (C + c) with `gaussian` (and the linears (Q + S) C c), (Q + M) c^2 with `dot_product`, (Q + M + Q M) c with
    `concatenation`.
    Same as the authors' code by default, with a 2-D map. `sub_sample=after, scale=1` is AlexHex7/Non-local_pytorch,
    `sub_sample=after` mmcv's NonLocal2d (whose W has no bias where a norm follows), `sub_sample=none, scale=dim,
    reduction=8` timm's `NonLocalAttn`.

    Args:
        pairwise: `embedded_gaussian`, the softmax over j of s theta_i . phi_j; `gaussian`, that of x_i . x_j without
            theta, phi and s; `dot_product`, theta_i . phi_j / M without a softmax, where keys meet values first and no
            map is built; or `concatenation`, ReLU(u . theta_i + v . phi_j) / M with learned vectors u and v.
        reduction: C / c, how many times narrower the inside is.
        sub_sample: a 2 x 2 max pooling of the keys' and values' map: `before` phi and g (the authors' code), `after`
            them (the paper's figure), or none. An odd last row or column is left out; a side of 1 is not pooled.
        scale: the factor s of `embedded_gaussian`: `head_dim` for c^-0.5, `dim` for C^-0.5, or a number (the paper: 1).
        norm: whether a batch norm follows W.
        attn_drop: dropout rate of the attention maps of the two Gaussians.
        proj_drop: dropout rate of the output.

    Raises:
        ValueError: an unknown pairwise function or sub-sampling, or a reduction below 1.
    """

    needs = "raster"
    last = "out"

    def __init__(
        self,
        dim: int,
        *,
        pairwise: Pairwise = "embedded_gaussian",
        reduction: int = 2,
        sub_sample: SubSample | None = "before",
        scale: Scale | float = "head_dim",
        norm: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(attn_drop, proj_drop)
        if pairwise not in get_args(Pairwise):
            raise ValueError(f"there is no pairwise function {pairwise!r}: {nearest(pairwise, get_args(Pairwise))}")
        if sub_sample is not None and sub_sample not in get_args(SubSample):
            raise ValueError(f"sub_sample is 'before', 'after' or none, not {sub_sample!r}")
        if reduction < 1:
            raise ValueError(f"reduction is at least 1, not {reduction}")
        self.inner = max(1, dim // reduction)
        self._set_heads(dim, 1, self.inner)
        self.pairwise, self.sub_sample = pairwise, sub_sample
        gaussian = pairwise == "gaussian"
        self.scale = 1.0 if gaussian else attention_scale(scale, dim, self.inner)
        self.theta, self.phi = (nn.Identity() if gaussian else nn.Linear(dim, self.inner) for _ in range(2))
        self.g = nn.Linear(dim, self.inner)
        if pairwise == "concatenation":
            self.of_query, self.of_key = (nn.Linear(self.inner, 1, bias=False) for _ in range(2))
        self.out = nn.Linear(self.inner, dim)
        self.norm: nn.Module = nn.Identity()
        if norm:
            self.norm = nn.BatchNorm1d(dim)
            nn.init.zeros_(self.norm.weight)
        else:
            self.starts_at_zero = ("out",)  # type: ignore[misc]  # chosen by an option
        if not gaussian and pairwise != "embedded_gaussian":
            self.fused, self.maps_are = "never", "mixed"
            self.fused_reason = "the weights are not a softmax"

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + N, C) to the same."""
        x = source = tokens.sequence
        if self.sub_sample == "before":
            source = self._pooled(x, tokens)
        q, k, v = self.theta(x), self.phi(source), self.g(source)  # (B, Q, c), (B, M, c) twice
        if self.sub_sample == "after":
            k, v = self._pooled(k, tokens), self._pooled(v, tokens)
        y = self.out(self._mixed(q, k, v))
        out = self.dropped(self.norm(y.flatten(0, 1)).view_as(y))
        return Tokens(out, tokens.size, prefix=tokens.prefix, layout=tokens.layout, carry=tokens.carry)

    def _pooled(self, x: Tensor, tokens: Tokens) -> Tensor:
        """(B, P + H W, c) to (B, P + M, c)."""
        image = x[:, tokens.prefix :].unflatten(1, tokens.size).permute(0, 3, 1, 2)
        pooled = F.max_pool2d(image, _window(tokens.size)).permute(0, 2, 3, 1).flatten(1, 2)
        return torch.cat((x[:, : tokens.prefix], pooled), dim=1) if tokens.prefix else pooled

    def _mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """sum_j a_ij v_j, (B, Q, c)."""
        if self.fused != "never":
            return self.attend(q[:, None], k[:, None], v[:, None], scale=self.scale)
        if self.pairwise == "concatenation":
            weights = F.relu(self.of_query(q) + self.of_key(k).transpose(1, 2)) / k.shape[1]  # (B, Q, M)
            if self.maps is not None:
                self.maps.append(weights[:, None].detach())
            mixed = weights @ v
            if self.reader is not None:
                self.reader(Weights.of(weights[:, None].detach())._replace(values=v[:, None], out=mixed[:, None]))
            return mixed
        if self.maps is not None:
            self.maps.append((q @ k.transpose(1, 2) / k.shape[1])[:, None].detach())
        mixed = q @ (k.transpose(1, 2) @ v / k.shape[1])
        if self.reader is not None:

            def of_rows(images: slice, queries: slice) -> Tensor:
                return (q[images, queries] @ k[images].transpose(1, 2) / k.shape[1])[:, None]

            self.reader(Weights((q.shape[0], 1, q.shape[1], k.shape[1]), of_rows, v[:, None], mixed[:, None]))
        return mixed

    def key_grids(self, size: Size) -> tuple[KeyGrid, ...]:
        """The cells of each maximum."""
        if self.sub_sample is None:
            return (KeyGrid(size),)
        rows, columns = (
            kernel_shares(side, side, 0, side.__rfloordiv__)(n) for n, side in zip(size, _window(size), strict=True)
        )
        return (KeyGrid((rows.shape[0], columns.shape[0]), rows, columns),)

    def macs(self, size: Size, extra: int = 0) -> int:
        """Linears 2 (Q + S) C c; pairs 2 Q M c, with `gaussian` Q M (C + c), with `dot_product` (Q + M) c^2, with
        `concatenation` (Q + M) c + Q M c."""
        queries = keys = rows(size, extra)
        if self.sub_sample is not None:
            window = _window(size)
            keys = size[0] // window[0] * (size[1] // window[1]) + extra
        source = keys if self.sub_sample == "before" else queries
        c = self.inner
        if self.pairwise == "gaussian":
            return (source + queries) * self.dim * c + queries * keys * (self.dim + c)
        pairs = {
            "embedded_gaussian": 2 * queries * keys * c,
            "dot_product": (queries + keys) * c * c,
            "concatenation": (queries + keys + queries * keys) * c,
        }[self.pairwise]
        return 2 * (queries + source) * self.dim * c + pairs


def _window(size: Size) -> Size:
    """The window of the pooling: 2 x 2, along a side of one token 1."""
    h, w = (1 if known(n) and n == 1 else 2 for n in size)
    return h, w
