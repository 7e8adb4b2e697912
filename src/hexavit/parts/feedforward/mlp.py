"""The Transformer's position-wise feedforward network."""

from __future__ import annotations

from torch import Tensor, nn

from hexavit.parts.contract import PartModule, Size, Tokens, rows
from hexavit.parts.layers import activation
from hexavit.parts.registry import register_part


@register_part("feedforward", "mlp")
class MLP(PartModule):
    """Two linears with an activation between, on every token alike (Vaswani et al., 2017, eq. 2; ViT, eq. 3).

    out = act(x W_1 + b_1) W_2 + b_2, hidden width R = ratio C.

    Shapes: (B, M, C) to the same. Cost: parameters 2 R C + R + C; multiply-adds 2 M R C.

    Args:
        ratio: hidden width R, as a multiple of C.
        act: `gelu` (erf), `gelu_tanh` (ViT's JAX code), `quick_gelu` (CvT), `relu` or `silu`.
        drop: dropout rate after the activation and after the second linear.

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
        self.fc1, self.act, self.fc2 = nn.Linear(dim, hidden), activation(act), nn.Linear(hidden, dim)
        self.drop = nn.Dropout(drop)

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, M, C) to the same."""
        return tokens.join().each(self._transform)

    def _transform(self, x: Tensor) -> Tensor:
        out: Tensor = self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))
        return out

    def macs(self, size: Size, extra: int = 0) -> int:
        """2 M R C."""
        return 2 * rows(size, extra) * self.fc1.in_features * self.hidden
