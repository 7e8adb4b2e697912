"""The Transformer's position-wise feedforward network."""

from __future__ import annotations

from torch import Tensor, nn

from hexavit.parts.contract import PartModule, Size, Tokens, rows
from hexavit.parts.layers import ScaledLinear, activation
from hexavit.parts.plain import divisible, in_pieces, product
from hexavit.parts.registry import register_part


@register_part("feedforward", "mlp")
class MLP(PartModule):
    """Two linears with an activation between, on every token alike (Vaswani et al., 2017, eq. 2; ViT, eq. 3).

    out = act(x W_1 + b_1) W_2 + b_2, hidden width R = ratio C. `act` is gelu (erf), gelu_tanh (ViT's own JAX code),
    quick_gelu (CvT), relu or silu.

    Shapes: (B, M, C) to the same. Cost: parameters 2 R C + R + C; multiply-adds 2 M R C.

    Raises:
        ValueError: an unknown activation, or a ratio that gives no whole hidden width.
    """

    last = "fc2"

    def __init__(self, dim: int, *, ratio: float = 4.0, act: str = "gelu", drop: float = 0.0) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        self.hidden = hidden
        if hidden < 1:
            raise ValueError(f"ratio={ratio} leaves no hidden width at dim={dim}")
        if act == "quick_gelu":  # x sigmoid(1.702 x) = silu(1.702 x) / 1.702, in one pass instead of three
            self.fc1: nn.Linear = ScaledLinear(dim, hidden, 1.702, 1.702)
            self.act: nn.Module = activation("silu")
            self.fc2: nn.Linear = ScaledLinear(hidden, dim, 1 / 1.702)
        else:
            self.fc1, self.act, self.fc2 = nn.Linear(dim, hidden), activation(act), nn.Linear(hidden, dim)
        self.drop = nn.Dropout(drop)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, M, C) to the same."""
        # Two products for a few extra tokens would cost more.
        return tokens.join().each(self._by_rows if divisible(self, tokens.image) else self._transform)

    def _by_rows(self, x: Tensor) -> Tensor:
        return in_pieces(self._transform, x.flatten(0, 1), self.hidden).view_as(x)

    def _transform(self, x: Tensor) -> Tensor:
        out: Tensor = self.drop(product(self.fc2, self.drop(self.act(product(self.fc1, x)))))
        return out

    def macs(self, size: Size, extra: int = 0) -> int:
        """2 M R C."""
        return 2 * rows(size, extra) * self.fc1.in_features * self.hidden
