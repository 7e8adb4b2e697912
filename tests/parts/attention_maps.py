"""What the attention maps of a part must be, found without the code that reads them: derivatives of its output by its
input while its weights stand still."""

from collections.abc import Callable, Container
from typing import Any

import torch
from torch import Tensor, nn

from hexavit.parts import Tokens
from hexavit.parts.attention import performer

# Parts with a nonlinear step between the values and what comes out: which cells move it still tells where it reads.
NOT_LINEAR = {
    "bottleneck": "an activation before and behind",
    "conv_projection": "weights of its own for each place of the kernel",
    "depthwise": "activations before and behind",
    "evolving_conv": "a convolution beside",
    "non_local": "a maximum of keys",
    "pooling": "a norm of the values",
    "spatial_reduction": "a norm of the reduced values",
}
# Parts of which a cell may not move the output though it could: a ReLU or a maximum takes another.
NOT_ALL_MOVE = ("bottleneck", "depthwise", "evolving_conv", "non_local")


# Methods whose tensors at these positions make the weights, of parts that do not call `attend`.
MAKE_WEIGHTS: dict[str, tuple[str, tuple[int, ...]]] = {
    "ddf": ("_combined", (0, 1)),
    "evolving": ("weighed", (0,)),
    "evolving_conv": ("weighed", (0,)),
    "local_relation": ("_composed", (0, 1)),
    "non_local": ("_mixed", (0, 1)),
}


def with_fixed_weights(part: Any, name: str, monkeypatch: Any) -> None:
    """Let the values of a part depend on its input, and its attention weights not."""

    def attend(q: Tensor, k: Tensor, v: Tensor, *, scale: float, bias: Tensor | None = None, **_: Any) -> Tensor:
        logits = q @ k.transpose(2, 3) * scale
        weights = part.before_softmax(logits if bias is None else logits + bias).softmax(dim=3)
        return (part.after_softmax(weights).detach() @ v).transpose(1, 2).flatten(2)

    def detached(method: Callable[..., Any], which: Container[int]) -> Callable[..., Any]:
        return lambda *args: method(*(each.detach() if i in which else each for i, each in enumerate(args)))

    monkeypatch.setattr(part, "attend", attend)
    part.value_position = None
    if name in MAKE_WEIGHTS:
        method, which = MAKE_WEIGHTS[name]
        monkeypatch.setattr(part, method, detached(getattr(part, method), which))
    if name == "performer":
        monkeypatch.setattr(performer, "performer_attention", detached(performer.performer_attention, (0, 1)))
    if name == "local":
        normed = part._normed
        monkeypatch.setattr(part, "_normed", lambda logits: normed(logits).detach())
    if name == "depthwise" and hasattr(part.conv, "filters"):
        filters = part.conv.filters
        monkeypatch.setattr(part.conv, "filters", lambda x: filters(x).detach())
    if name == "sparse":
        folded = part._folded

        def only_values(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
            q, k, v = folded(*args)
            return q.detach(), k.detach(), v

        monkeypatch.setattr(part, "_folded", only_values)
    if name == "pooling":
        part.residual_q = False
    if name == "non_local":  # which starts as the identity
        last = part.norm if isinstance(part.norm, nn.BatchNorm1d) else part.out
        nn.init.normal_(last.weight, generator=torch.Generator().manual_seed(0))


def derivatives(part: nn.Module, tokens: Tokens) -> Tensor:
    """Of a random sum of the channels of each token that comes out by each channel of each token that goes in:
    (tokens out, tokens in, channels)."""
    x = tokens.sequence.detach().requires_grad_()
    out = part(Tokens(x, tokens.size, prefix=tokens.prefix, layout=tokens.layout, carry=tokens.carry)).sequence
    sums = out[0] @ torch.randn(out.shape[2], generator=torch.Generator().manual_seed(0))
    return torch.stack([torch.autograd.grad(row, x, retain_graph=True)[0][0] for row in sums])
