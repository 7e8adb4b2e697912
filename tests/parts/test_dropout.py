"""Dropout acts where its option is set, only in training, and scales what it keeps."""

from typing import Literal

import pytest
import torch

from hexavit.parts import Tokens, softmax_path
from hexavit.parts.attention import (
    Attention,
    ClassAttention,
    ConvProjection,
    GlobalAttention,
    LocalAttention,
    ReAttention,
    SpatialReduction,
    TalkingHeads,
    WindowAttention,
)
from hexavit.parts.feedforward import MLP
from hexavit.parts.heads import ClassTokenHead, PoolHead, TokenLabelHead, TwoHeads
from hexavit.parts.positions import LearnedPosition
from hexavit.parts.tokens.tokens_to_token import T2TLayer

ATTENTION = {
    "global": lambda **o: GlobalAttention(8, heads=2, **o),
    "talking_heads": lambda **o: TalkingHeads(8, heads=2, **o),
    "re_attention": lambda **o: ReAttention(8, heads=2, **o),
    "class_attention": lambda **o: ClassAttention(8, heads=2, **o),
    "conv_projection": lambda **o: ConvProjection(8, heads=2, **o),
    "spatial_reduction": lambda **o: SpatialReduction(8, 1e-5, torch.nn.ModuleDict(), heads=2, **o),
    "local": lambda **o: LocalAttention(8, heads=2, kernel=3, **o),
    "window": lambda **o: WindowAttention(8, (6, 6), heads=2, window=3, **o),
}


def tokens() -> Tokens:
    draw = torch.Generator().manual_seed(1)
    return Tokens(torch.randn(2, 36, 8, generator=draw), (6, 6), extra=torch.randn(2, 1, 8, generator=draw))


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("name", ATTENTION)
def test_attention_dropout_drops_all_maps_at_rate_one(name: str, softmax: bool) -> None:
    """Nothing of the values is left: the projection of zeros is its bias."""
    torch.manual_seed(0)
    part: Attention = ATTENTION[name](attn_drop=1.0).train()
    if softmax:
        with softmax_path(part):
            found = part(tokens())
    else:
        found = part(tokens())
    changed = found.extra if name == "class_attention" else found.image
    assert changed is not None
    torch.testing.assert_close(changed, part.proj.bias.expand_as(changed))  # type: ignore[union-attr,operator]
    kept = part.eval()(tokens())
    assert not torch.allclose(kept.extra if name == "class_attention" else kept.image, changed)  # type: ignore[arg-type]


def test_attention_dropout_keeps_the_mean_on_the_softmax_path() -> None:
    torch.manual_seed(0)
    part = GlobalAttention(8, heads=2, attn_drop=0.5)
    expected = part.eval()(tokens()).image.detach()
    part.train()
    with torch.no_grad(), softmax_path(part):
        drawn = torch.stack([part(tokens()).image for _ in range(4000)])
    assert drawn.std(0).min() > 0
    torch.testing.assert_close(drawn.mean(0), expected, rtol=0, atol=6 * drawn.std().item() / 4000**0.5)


@pytest.mark.parametrize("make", [ClassTokenHead, PoolHead, TwoHeads, TokenLabelHead])
def test_head_dropout_stands_before_the_last_linear(make: type[ClassTokenHead]) -> None:
    head = make(8, 1e-5, 3, drop=0.5)
    seen: list[torch.Tensor] = []
    head.fc.register_forward_hook(lambda _, given, out: seen.append(given[0]))
    torch.manual_seed(0)
    head.train()(tokens().with_extra(torch.ones(2, 1, 8)))
    head.eval()(tokens().with_extra(torch.ones(2, 1, 8)))
    dropped, kept = seen
    assert 0 < (dropped == 0).sum() < dropped.numel()
    torch.testing.assert_close(dropped[dropped != 0], 2 * kept[dropped != 0])


def test_mlp_dropout_stands_behind_both_linears() -> None:
    part = MLP(8, drop=0.5).train()
    seen: list[torch.Tensor] = []
    part.fc2.register_forward_hook(lambda _, given, out: seen.append(given[0]))
    torch.manual_seed(0)
    out = part(tokens()).sequence
    for value in (seen[0], out):
        assert 0.3 < (value == 0).float().mean() < 0.7


def test_position_dropout_stands_behind_the_sum() -> None:
    torch.manual_seed(0)
    out = LearnedPosition(8, (6, 6), 1, drop=0.5).train()(tokens()).sequence
    assert 0.3 < (out == 0).float().mean() < 0.7


@pytest.mark.parametrize(("kind", "rate"), [("performer", 0.1), ("transformer", 0.0)])
def test_tokens_to_token_drops_a_tenth_behind_the_performer(
    kind: Literal["performer", "transformer"], rate: float
) -> None:
    """yitu-opensource/T2T-ViT, token_performer.py: ``dp1 = 0.1``; token_transformer.py drops nothing."""
    torch.manual_seed(0)
    layer = T2TLayer(8, 8, 1e-5, kind).train()
    seen: list[torch.Tensor] = []
    output = layer.output

    def watched(mixed: torch.Tensor) -> torch.Tensor:
        seen.append(output(mixed))
        return seen[-1]

    layer.output = watched  # type: ignore[method-assign]  # the layer goes on with what is seen
    layer(Tokens(torch.randn(8, 400, 8), (20, 20)))
    assert (seen[0] == 0).float().mean().item() == pytest.approx(rate, abs=0.01)
