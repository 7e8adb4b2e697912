"""The reduction cell computes what its docstring states, on grids of any size."""

from math import ceil

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hexavit
from hexavit.parts import Tokens
from hexavit.parts.tokens import ReductionCell

pytestmark = pytest.mark.usefixtures("one_thread")


def cell(**options: object) -> ReductionCell:
    torch.manual_seed(0)
    made = ReductionCell(3, 8, 1e-6, **options).eval()  # type: ignore[arg-type]  # options by their names
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return made


def plain(made: ReductionCell, x: Tensor, dilations: tuple[int, ...], kernel: int, stride: int) -> Tensor:
    """The cell's equations on a map (1, 3, H, W) that the stride divides, without its code."""
    maps = []
    for d, conv in zip(dilations, made.pyramid, strict=True):
        padding = ceil(((kernel - 1) * d + 1 - stride) / 2)
        maps.append(F.gelu(F.conv2d(x, conv.weight, conv.bias, stride, padding, d)))
    p = torch.cat(maps, 1).flatten(2).transpose(1, 2)
    layer, (first, _, second, norm, _, third, _) = made.layer, made.parallel
    normed = F.layer_norm(p, p.shape[2:], layer.norm1.weight, layer.norm1.bias, layer.norm1.eps)
    k, q, v = F.linear(normed, layer.qkv.weight, layer.qkv.bias).split(8, dim=2)
    # exp of the difference of logits: each row of the estimated map
    phi_q, phi_k = (
        (u @ layer.w.T - u.square().sum(-1, keepdim=True) / 2).exp() / layer.w.shape[0] ** 0.5 for u in (q, k)
    )
    scores = phi_q @ phi_k.transpose(1, 2)
    mixed = (scores / (scores.sum(-1, keepdim=True) + 1e-8)) @ v
    beside = F.silu(F.conv2d(x, first.weight, first.bias, 2, 1))
    beside = F.conv2d(beside, second.weight, second.bias, 2 if stride == 4 else 1, 1)
    beside = F.batch_norm(beside, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-5)
    beside = F.silu(F.conv2d(F.silu(beside), third.weight, third.bias, 1, 1))
    y = v + F.linear(mixed, layer.proj.weight, layer.proj.bias) + beside.flatten(2).transpose(1, 2)
    normed = F.layer_norm(y, (8,), layer.norm2.weight, layer.norm2.bias, layer.norm2.eps)
    fc1, fc2 = layer.feedforward.fc1, layer.feedforward.fc2
    return y + F.linear(F.gelu(F.linear(normed, fc1.weight, fc1.bias)), fc2.weight, fc2.bias)


@pytest.mark.parametrize(("kernel", "stride", "dilations"), [(7, 4, (1, 2, 3, 4)), (3, 2, (1, 2, 3))])
@pytest.mark.parametrize("size", [(16, 24), (8, 8), (13, 18)])
def test_a_cell_is_its_equations(kernel: int, stride: int, dilations: tuple[int, ...], size: tuple[int, int]) -> None:
    made = cell(kernel=kernel, stride=stride, dilations=dilations, embed_dim=5)
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    out = made(Tokens.of_map(x))
    assert out.size == made.out_size(size) == (ceil(size[0] / stride), ceil(size[1] / stride))
    padded = F.pad(x, (0, -size[1] % stride, 0, -size[0] % stride))
    torch.testing.assert_close(out.image, plain(made, padded, dilations, kernel, stride))


def test_a_cell_without_attention_is_its_convolutions() -> None:
    made = cell(attend=False, dilations=(1, 2))
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    maps = [F.gelu(F.conv2d(x, conv.weight, conv.bias, 2, d, d)) for d, conv in zip((1, 2), made.pyramid, strict=True)]
    torch.testing.assert_close(made(Tokens.of_map(x)).map, torch.cat(maps, 1))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kernel": 4}, "kernel must be odd, not 4"),
        ({"stride": 3}, "stride must be 1, 2, 4 or 8, not 3"),
        ({"dilations": ()}, "dilations must be"),
        ({"dilations": (0, 1)}, "dilations must be"),
        ({"attend": False, "embed_dim": 5}, "give 10 channels: without `attend` they must give dim=8"),
    ],
)
def test_wrong_options(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        cell(**options)


def test_all_convolutions_that_read_the_image_are_adapted_to_its_channels() -> None:
    colour = hexavit.create_model("vitae_nano").eval()
    grey = hexavit.create_model("vitae_nano", in_chans=1).eval()
    report = hexavit.load_checkpoint(grey, colour.state_dict(), adapt="channels")
    assert len(report.adapted) == 3  # two dilations, and the first parallel one
    x = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(grey(x), colour(x.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)
