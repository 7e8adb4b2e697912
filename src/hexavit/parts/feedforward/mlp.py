"""The Transformer's position-wise feedforward network."""

from __future__ import annotations

from torch import Tensor, nn

from hexavit.parts.contract import PartModule, Size, Tokens, rows
from hexavit.parts.layers import activation, dropout, dropped
from hexavit.parts.registry import register_part


@register_part("feedforward", "mlp")
class MLP(PartModule):
    """Two linears with an activation between, on every token alike (Vaswani et al., 2017, eq. 2; ViT, eq. 3).

    out = act(x W_1 + b_1) W_2 + b_2, hidden width R = ratio C.

    Shapes: (B, M, C) to (B, M, C'). Cost: parameters R (C + C') + R + C'; multiply-adds M R (C + C').

    Args:
        ratio: hidden width R, as a multiple of C.
        out_ratio: width C' that comes out, as a multiple of C; 2 at the end of a stage whose next one is wider (MViT:
            Fan et al., ICCV 2021, section 3.2).
        act: `gelu` (erf), `gelu_tanh` (ViT's JAX code), `quick_gelu` (CvT), `relu` or `silu`.
        drop: dropout rate after the activation and after the second linear.

    Raises:
        ValueError: an unknown activation, or a ratio that gives no whole width.
    """

    last = "fc2"

    def __init__(
        self, dim: int, *, ratio: float = 4.0, out_ratio: float = 1.0, act: str = "gelu", drop: float = 0.0
    ) -> None:
        super().__init__()
        hidden, out = int(dim * ratio), int(dim * out_ratio)
        self.hidden = hidden
        if hidden < 1:
            raise ValueError(f"ratio={ratio} leaves no hidden width at dim={dim}")
        if out < 1:
            raise ValueError(f"out_ratio={out_ratio} leaves no width at dim={dim}")
        self.out_dim = out
        self.fc1, self.act, self.fc2 = nn.Linear(dim, hidden), activation(act), nn.Linear(hidden, out)
        self.drop = dropout(drop)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, M, C) to (B, M, C')."""
        return tokens.join().each(self._transform)

    def _transform(self, x: Tensor) -> Tensor:
        hidden = dropped(self.act(self.fc1(x)), self.drop)
        return dropped(self.fc2(hidden), self.drop)

    def macs(self, size: Size, extra: int = 0) -> int:
        """M R (C + C')."""
        return rows(size, extra) * self.hidden * (self.fc1.in_features + self.fc2.out_features)


@register_part("feedforward", "excited_mlp")
class ExcitedMLP(MLP):
    """`mlp`, and its output times weights of the channels from -1 to 1, which follow from the mean of all tokens
    (the code of TNT: Han et al., NeurIPS 2021; after squeeze and excitation: Hu et al., CVPR 2018).

    out = t + a t with t = mlp(x) and a = tanh(W_2 relu(W_1 norm(mean t) + b_1) + b_2), over extra and image tokens; W_1
    has `reduction` times fewer outputs.

    Shapes: (B, M, C) to the same. Cost: that of `mlp`, and with S = C // reduction parameters 2 C + 2 S C + S + C,
    multiply-adds 2 S C.
    Same as huawei-noah/Efficient-AI-Backbones' TNT with `se=1`, which none of its published models has.

    Raises:
        ValueError: as `mlp`, and a reduction that leaves no channel.
    """

    weights_in_a_row = 4

    def __init__(
        self,
        dim: int,
        norm_eps: float,
        *,
        ratio: float = 4.0,
        act: str = "gelu",
        drop: float = 0.0,
        reduction: int = 4,
    ) -> None:
        super().__init__(dim, ratio=ratio, act=act, drop=drop)
        if reduction < 1 or dim // reduction < 1:
            raise ValueError(f"reduction={reduction} leaves nothing of {dim} channels")
        self.excite = nn.Sequential(
            nn.LayerNorm(dim, eps=norm_eps),
            nn.Linear(dim, dim // reduction),
            nn.ReLU(),
            nn.Linear(dim // reduction, dim),
            nn.Tanh(),
        )

    def _transform(self, x: Tensor) -> Tensor:
        out = super()._transform(x)
        weighed: Tensor = self.excite(out.mean(dim=1, keepdim=True)) * out
        return out + weighed

    def macs(self, size: Size, extra: int = 0) -> int:
        """2 M R C + 2 S C."""
        first = self.excite[1]
        assert isinstance(first, nn.Linear)
        return super().macs(size, extra) + 2 * first.weight.numel()
