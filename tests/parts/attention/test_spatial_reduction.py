"""Attention with reduced keys and values, in half precision."""

import copy

import pytest
import torch
from torch import nn

from hexavit.parts import Tokens
from hexavit.parts.attention import SpatialReduction


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mixed_maps_are_normed_in_float32(dtype: torch.dtype, autocast: bool) -> None:
    """Near 1 / M all maps of nearly equal logits round to one number, and their norm magnifies what is left."""
    torch.manual_seed(0)
    part = SpatialReduction(16, 1e-5, nn.ModuleDict(), heads=4, method="depthwise", sr_ratio=2, mix_heads=True).eval()
    with torch.no_grad():
        for p in part.parameters():
            p.mul_(1 / 3)  # logits that differ little
    tokens = Tokens(torch.randn(2, 256, 16), (16, 16))
    exact = part(tokens).image.detach()
    with torch.no_grad(), torch.autocast("cpu", dtype, enabled=autocast):
        found = part(tokens) if autocast else copy.deepcopy(part).to(dtype)(tokens.each(lambda x: x.to(dtype)))
    assert found.image.dtype == dtype
    worst = (found.image.float() - exact).abs().max() / exact.abs().max()
    assert worst < {torch.bfloat16: 0.02, torch.float16: 0.003}[dtype]
