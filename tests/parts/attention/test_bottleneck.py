"""The bottlenecks against plain computations."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hexavit
from hexavit.parts import Tokens
from hexavit.parts.attention import BottleneckAttention, ConvBottleneck
from hexavit.parts.positions import DecomposedRelative
from hexavit.parts.residual import PostActivation


def stirred(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape)
                tensor.copy_(0.5 + noise.abs() if name.endswith("running_var") else 0.3 * noise)
    return module.eval().double()


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).double()


def normed(norm: nn.Module, x: Tensor) -> Tensor:
    """Batch norm of a map in evaluation, written out."""
    mean, var, weight, bias = (t[:, None, None] for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias))
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def pooled(x: Tensor, stride: int) -> Tensor:
    """Means of windows that end at the border."""
    h, w = x.shape[2:]
    rows = [
        torch.stack([x[:, :, i : i + stride, j : j + stride].mean((2, 3)) for j in range(0, w, stride)], dim=2)
        for i in range(0, h, stride)
    ]
    return torch.stack(rows, dim=2)


@pytest.mark.parametrize(("size", "stride"), [((4, 6), 1), ((4, 6), 2), ((5, 3), 2)])
def test_attention_pair_by_pair(size: tuple[int, int], stride: int) -> None:
    part = BottleneckAttention(6, 16, heads=2, ratio=0.5, stride=stride)
    part.position = DecomposedRelative(2, 4, size, size, scaled=True)
    stirred(part)
    x = images(2, 6, *size)
    y = normed(part.norm1, torch.einsum("oc,bchw->bohw", part.conv1.weight[:, :, 0, 0], x)).relu()
    q, k, v = torch.einsum("oc,bchw->bohw", part.qkv.weight, y).unflatten(1, (3, 2, 4)).unbind(1)  # (B, h, d, H, W)
    table_h, table_w = part.position.table_h, part.position.table_w
    h, w = size
    logits = torch.empty(2, 2, h, w, h, w, dtype=torch.float64)
    for i, j, m, n in torch.cartesian_prod(*map(torch.arange, (h, w, h, w))).tolist():
        query = q[..., i, j] / 4**0.5
        both = k[..., m, n] + table_h[i - m + h - 1] + table_w[j - n + w - 1]
        logits[:, :, i, j, m, n] = (query * both).sum(-1)
    attention = logits.flatten(4).softmax(-1).view_as(logits)
    mixed = torch.einsum("bhijmn,bhdmn->bhdij", attention, v).flatten(1, 2)
    mixed = normed(part.norm, pooled(mixed, stride) if stride > 1 else mixed).relu()
    expected = normed(part.norm3, torch.einsum("oc,bchw->bohw", part.conv3.weight[:, :, 0, 0], mixed))
    given = Tokens.of_map(x)
    out = part(given)
    torch.testing.assert_close(out.map, expected)
    assert out.size == part.out_size(size) == tuple(expected.shape[2:])


def test_extra_tokens_attend_and_are_not_pooled() -> None:
    part = stirred(BottleneckAttention(6, 16, heads=2, stride=2))
    given = Tokens.of_grid(images(1, 4, 4, 6), extra=images(1, 1, 6))
    out = part(given)
    assert (out.image.shape, out.extra.shape) == ((1, 4, 16), (1, 1, 16))
    moved = part(given.replace_extra(given.extra + 1))
    assert not torch.allclose(moved.image, out.image)


def test_convolutions_are_those_of_torchvisions_bottleneck() -> None:
    torchvision = pytest.importorskip("torchvision")
    down = nn.Sequential(nn.Conv2d(6, 16, 1, stride=2, bias=False), nn.BatchNorm2d(16))
    peer = stirred(torchvision.models.resnet.Bottleneck(6, 4, stride=2, downsample=down))
    part, residual = ConvBottleneck(6, 16, stride=2), PostActivation(6, 2, 1e-5, 0.0, 16)
    state = {key.replace("bn", "norm"): t for key, t in peer.state_dict().items() if "downsample" not in key}
    part.load_state_dict(state)
    residual.skip.load_state_dict(down[0].state_dict())
    residual.skip_norm.load_state_dict(down[1].state_dict())
    part, residual = part.eval().double(), residual.eval().double()
    x = images(2, 6, 7, 6)
    out = residual(Tokens.of_map(x), part)
    assert out.size == (4, 3)
    torch.testing.assert_close(out.map, peer(x))


def test_an_activation_follows_the_sum_of_extra_tokens_too() -> None:
    residual = stirred(PostActivation(6, 2, 1e-5, 0.0, 8, act="silu"))
    given = Tokens.of_grid(images(1, 3, 5, 6), extra=images(1, 2, 6))
    out = residual(given, lambda tokens: Tokens(images(1, 6, 8), (2, 3), extra=images(1, 2, 8)))
    skip = normed(
        residual.skip_norm, torch.einsum("oc,bpc->bop", residual.skip.weight[:, :, 0, 0], given.extra)[..., None]
    )
    torch.testing.assert_close(out.extra, F.silu(skip[..., 0].mT + images(1, 2, 8)))
    assert out.size == (2, 3)


def test_an_edit_of_a_column_that_no_block_reads_is_an_error() -> None:
    with pytest.raises(hexavit.HexavitError, match=r"has no feedforward of this column: set its branches too"):
        hexavit.create_model("botnet_nano", overrides=["stages.0.feedforward=mlp"])
    model = hexavit.create_model(
        "botnet_nano", overrides=["stages.2.feedforward=mlp(ratio=2.0)", "stages.2.block=(attention, feedforward)"]
    )
    assert model.architecture.row()[3] == "mlp(ratio=2)"
