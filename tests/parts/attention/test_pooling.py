"""Pooling attention, against attention written out token by token."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hexavit.parts import Tokens
from hexavit.parts.attention import PoolingAttention
from hexavit.parts.positions import DecomposedRelative


def attention(size: tuple[int, int], relative: bool = False, **options: object) -> PoolingAttention:
    torch.manual_seed(0)
    part = PoolingAttention(6, 8, 1e-6, heads=2, **options)  # type: ignore[arg-type]
    if relative:
        (scope,) = part.scopes(size)
        part.position = DecomposedRelative(2, 4, scope.queries, scope.keys)
    for parameter in part.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return part.eval()


def tokens(size: tuple[int, int], extra: int = 0) -> Tokens:
    draw = torch.Generator().manual_seed(1)
    image = torch.randn(2, math.prod(size), 6, generator=draw)
    return Tokens(image, size, extra=torch.randn(2, extra, 6, generator=draw) if extra else None)


def pooled(x: Tensor, weight: Tensor, size: tuple[int, int], stride: int, extra: int) -> Tensor:
    """Tokens (P + H W, d) of one head, convolved place by place with zeros around; extra ones as they are."""
    grid = x[extra:].unflatten(0, size)
    out = [x[:extra]]
    for r in range(0, size[0], stride):
        for c in range(0, size[1], stride):
            total = torch.zeros(x.shape[1])
            for i in (-1, 0, 1):
                for j in (-1, 0, 1):
                    if 0 <= r + i < size[0] and 0 <= c + j < size[1]:
                        total = total + grid[r + i, c + j] * weight[:, 0, i + 1, j + 1]
            out.append(total[None])
    return torch.cat(out)


def everywhere(part: PoolingAttention, q: Tensor, k: Tensor, v: Tensor, size: tuple[int, int], extra: int) -> Tensor:
    logits = q @ k.t() / 2
    if part.position is not None:
        logits[extra:, extra:] += part.position(part.out_size(size), q[None, None, extra:], part.kv_size(size))[0, 0]
    return logits.softmax(-1) @ v


def windows(part: PoolingAttention, q: Tensor, k: Tensor, v: Tensor, size: tuple[int, int], extra: int) -> Tensor:
    """Window by window, with tokens of zeros where a window leaves the map; extra tokens read all tokens."""

    def inside(x: Tensor, grid: tuple[int, int], side: int, down: int, across: int) -> Tensor:
        image = x[extra:].unflatten(0, grid)
        out = torch.zeros(side, side, x.shape[1])
        for i in range(side):
            for j in range(side):
                r, c = down * side + i, across * side + j
                if r < grid[0] and c < grid[1]:
                    out[i, j] = image[r, c]
        return out.flatten(0, 1)

    grid, keys = part.out_size(size), part.kv_size(size)
    of_q, of_k = part.window // part.stride, part.window // part.stride_kv
    out = torch.zeros(*grid, q.shape[1])
    for down in range(math.ceil(size[0] / part.window)):
        for across in range(math.ceil(size[1] / part.window)):
            asked = inside(q, grid, of_q, down, across)
            held, values = (inside(x, keys, of_k, down, across) for x in (k, v))
            logits = asked @ held.t() / 2
            if part.position is not None:
                logits = logits + part.position((of_q, of_q), asked[None, None], (of_k, of_k))[0, 0]
            mixed = (logits.softmax(-1) @ values).unflatten(0, (of_q, of_q))
            place = out[down * of_q : (down + 1) * of_q, across * of_q : (across + 1) * of_q]
            place.copy_(mixed[: place.shape[0], : place.shape[1]])
    return torch.cat(((q[:extra] @ k.t() / 2).softmax(-1) @ v, out.flatten(0, 1)))


def written_out(part: PoolingAttention, given: Tokens) -> Tensor:
    """One image and one head after the other."""
    extra, images = given.prefix, []
    for x in given.sequence:
        heads = []
        for qkv in part.qkv(x).unflatten(1, (3, 2, 4)).permute(2, 1, 0, 3):
            q, k, v = qkv
            if part.pool_q is not None:
                q = pooled(q, part.pool_q.weight, given.size, part.stride, extra)
                q = F.layer_norm(q, (4,), part.norm_q.weight, part.norm_q.bias, 1e-6)  # type: ignore[union-attr]
            k = pooled(k, part.pool_k.weight, given.size, part.stride_kv, extra)
            v = pooled(v, part.pool_v.weight, given.size, part.stride_kv, extra)
            k = F.layer_norm(k, (4,), part.norm_k.weight, part.norm_k.bias, 1e-6)
            v = F.layer_norm(v, (4,), part.norm_v.weight, part.norm_v.bias, 1e-6)
            out = (
                windows(part, q, k, v, given.size, extra)
                if part.window
                else everywhere(part, q, k, v, given.size, extra)
            )
            heads.append(out + q if part.residual_q else out)
        images.append(part.proj(torch.cat(heads, dim=1)))
    return torch.stack(images)


@pytest.mark.parametrize("size", [(6, 6), (7, 5)])
@pytest.mark.parametrize("extra", [0, 2])
@pytest.mark.parametrize(
    "options",
    [
        {"stride_kv": 4},
        {"stride_q": 2, "stride_kv": 2, "relative": True},
        {"stride_q": 2, "residual_q": False},
        {"pool_q": False, "stride_kv": 2, "residual_q": False},
        {"window": 4, "stride_kv": 2, "relative": True},
        {"window": 4, "stride_q": 2, "relative": True},
        {"window": 2},
    ],
    ids=str,
)
@torch.no_grad()
def test_queries_keys_and_values_are_pooled(size: tuple[int, int], extra: int, options: dict[str, object]) -> None:
    part, given = attention(size, **options), tokens(size, extra)  # type: ignore[arg-type]
    found = part(given)
    assert found.size == part.out_size(size)
    assert (found.prefix, found.sequence.shape[1]) == (extra, extra + math.prod(found.size))
    torch.testing.assert_close(found.sequence, written_out(part, given))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kernel": 2}, "kernel must be odd, not 2"),
        ({"stride_kv": 0}, "stride_q and stride_kv are at least 1, not 1 and 0"),
        ({"stride_q": 2, "pool_q": False}, "stride_q=2 needs pool_q=true"),
        ({"stride_kv": 4, "window": 6}, "window is 0 or a multiple of stride_q=1 and stride_kv=4, not 6"),
    ],
)
def test_wrong_options_raise(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        attention((4, 4), **options)  # type: ignore[arg-type]
