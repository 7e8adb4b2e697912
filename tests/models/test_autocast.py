"""Half precision by autocast gives the float32 results, also where maps are padded and queries and keys are large."""

import pytest
import torch
from torch import nn

import hexavit

pytestmark = pytest.mark.usefixtures("one_thread")

# The largest difference, as a share of the largest logit: rounding of the inputs, which a sharp softmax magnifies.
LIMITS = {(torch.float16, 1): 0.02, (torch.bfloat16, 1): 0.05, (torch.float16, 30): 0.1, (torch.bfloat16, 30): 1.0}


def enlarge_queries_and_keys(model: nn.Module, factor: float) -> None:
    """Multiply the weights of all queries and keys, wherever a linear makes them."""
    parts = {"q": 1.0, "k": 1.0, "proj_q": 1.0, "proj_k": 1.0, "kv": 1 / 2, "qkv": 2 / 3}
    for name, layer in model.named_modules():
        share = parts.get(name.rpartition(".")[2])
        if share is not None and isinstance(layer, nn.Linear):
            layer.weight.data[: int(share * layer.out_features)] *= factor


@pytest.mark.parametrize("factor", [1, 30])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", hexavit.list_models("*_nano"))
@torch.no_grad()
def test_autocast_at_a_padded_size(name: str, dtype: torch.dtype, factor: int) -> None:
    torch.manual_seed(0)
    model = hexavit.create_model(name, num_classes=5).eval()
    enlarge_queries_and_keys(model, factor)
    images = torch.randn(2, 3, 72, 60, generator=torch.Generator().manual_seed(1))
    expected = model(images)
    with torch.autocast("cpu", dtype):
        found = model(images)
    assert found.dtype == dtype
    assert (found.float() - expected).abs().max() < LIMITS[dtype, factor] * expected.abs().max()
