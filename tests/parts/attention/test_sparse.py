"""Sparse patterns and sliding windows against attention with a mask over all pairs, and what they keep in memory."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import hexavit
from hexavit import HexavitError
from hexavit.parts import Attention, Tokens, record_attention
from hexavit.parts.attention import GlobalAttention, LongformerAttention, SparseAttention

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = [(4, 4), (5, 7), (3, 11), (1, 6), (9, 2)]
Allowed = dict[str, Any]


def plain(part: Any, x: Tensor, prefix: int, allowed: Tensor) -> Tensor:
    """Attention over all tokens (B, M, C) with a mask (heads, N, N) of image tokens; extra ones read everything."""
    q, k, v = part.qkv(x).unflatten(2, (3, part.heads, part.head_dim)).permute(2, 0, 3, 1, 4)
    logits = q @ k.transpose(2, 3) * part.head_dim**-0.5
    mask = torch.ones(part.heads, x.shape[1], x.shape[1], dtype=torch.bool)
    mask[:, prefix:, :prefix] = isinstance(part, LongformerAttention)
    mask[:, prefix:, prefix:] = allowed
    maps = logits.masked_fill(~mask, -torch.inf).softmax(dim=-1).nan_to_num(0.0)
    return (maps @ v).transpose(1, 2).flatten(2)


def number(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    i = torch.arange(size[0] * size[1])
    return i[:, None], i[None]


def sparse_allowed(size: tuple[int, int], name: str, stride: int, causal: bool, summary: int = 1) -> Tensor:
    i, j = number(size)
    found = {
        "local": (i - j).abs() < stride,
        "strided": (i - j) % stride == 0,
        "block": i // stride == j // stride,
        "summary": (j % stride >= stride - summary).expand(len(i), -1),
    }[name]
    return found & (j <= i) if causal else found


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize(
    "patterns", [("local",), ("local", "strided"), ("block", "summary"), ("summary", "strided", "local")], ids=str
)
@torch.no_grad()
def test_patterns_are_masks(size: tuple[int, int], causal: bool, merge: bool, patterns: tuple[str, ...]) -> None:
    part = SparseAttention(12, heads=3, patterns=patterns, merge=merge, stride=3, summary=2, causal=causal)
    part.proj = nn.Identity()  # type: ignore[assignment]
    x = torch.randn(2, 2 + size[0] * size[1], 12)
    each = torch.stack([sparse_allowed(size, name, 3, causal, 2) for name in patterns])
    allowed = each.any(dim=0, keepdim=True).expand(3, -1, -1) if merge else each[[i % len(each) for i in range(3)]]
    out = part(Tokens(x, size, prefix=2)).sequence
    torch.testing.assert_close(out, plain(part, x, 2, allowed))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("pattern", ["local", "strided", "block", "summary"])
@torch.no_grad()
def test_the_stride_is_the_row_by_default(size: tuple[int, int], causal: bool, pattern: str) -> None:
    part = SparseAttention(12, heads=3, patterns=(pattern,), causal=causal)
    part.proj = nn.Identity()  # type: ignore[assignment]
    x = torch.randn(2, size[0] * size[1], 12)
    allowed = sparse_allowed(size, pattern, size[1], causal).expand(3, -1, -1)
    torch.testing.assert_close(part(Tokens(x, size)).image, plain(part, x, 0, allowed))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("two_d", [False, True])
@pytest.mark.parametrize("dilations", [(1,), (2,), (1, 3)], ids=str)
@torch.no_grad()
def test_windows_are_masks(size: tuple[int, int], two_d: bool, dilations: tuple[int, ...]) -> None:
    part = LongformerAttention(
        12, size, 1, heads=3, window=4, dilations=dilations, two_d=two_d, global_projection=False
    )
    part.proj = nn.Identity()  # type: ignore[assignment]
    i, j = number(size)
    distances = [i // size[1] - j // size[1], i % size[1] - j % size[1]] if two_d else [i - j]
    near = [torch.stack([(d.abs() <= 2 * by) & (d % by == 0) for d in distances]).all(dim=0) for by in dilations]
    x = torch.randn(2, 1 + size[0] * size[1], 12)
    out = part(Tokens(x, size, prefix=1)).sequence
    allowed = torch.stack([near[head % len(near)] for head in range(3)])
    torch.testing.assert_close(out, plain(part, x, 1, allowed))


@torch.no_grad()
def test_global_tokens_read_by_projections_of_their_own() -> None:
    part = LongformerAttention(12, (5, 7), 1, heads=3, window=4, global_tokens=(9, 20))
    part.proj = nn.Identity()  # type: ignore[assignment]
    x = torch.randn(2, 36, 12)
    out = part(Tokens(x, (5, 7), prefix=1)).sequence
    whole = GlobalAttention(12, heads=3)
    q, kv = part.global_q, part.global_kv
    assert q is not None
    assert kv is not None
    whole.qkv.weight.copy_(torch.cat((q.weight, kv.weight)))
    whole.qkv.bias.copy_(torch.cat((q.bias, kv.bias)))
    whole.proj = nn.Identity()  # type: ignore[assignment]
    at = [0, 10, 21]
    torch.testing.assert_close(out[:, at], whole(Tokens(x, (5, 7), prefix=1)).sequence[:, at])
    i, j = number((5, 7))
    allowed = ((i - j).abs() <= 2) | (j == 9) | (j == 20)
    rest = [row for row in range(36) if row not in at]
    torch.testing.assert_close(out[:, rest], plain(part, x, 1, allowed.expand(3, -1, -1))[:, rest])


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that is computed."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.elements = max(self.elements, out.numel() if isinstance(out, Tensor) else 0)
        return out


@pytest.mark.parametrize(
    "part",
    [
        SparseAttention(8, heads=2),
        SparseAttention(8, heads=2, patterns=("local", "summary"), merge=False),
        LongformerAttention(8, (32, 32), 1, heads=2, window=16, dilations=(1, 2)),
        LongformerAttention(8, (32, 32), 1, heads=2, window=4, two_d=True),
    ],
    ids=str,
)
def test_the_map_of_all_pairs_is_never_built(part: Attention) -> None:
    tokens = Tokens(torch.randn(1, 1025, 8), (32, 32), prefix=1)
    with Largest() as largest:
        part(tokens).image.sum().backward()
    assert largest.elements < 1024 * 1024 / 4


def test_gradients_of_rows_that_read_nothing_are_finite() -> None:
    part = SparseAttention(8, heads=2, patterns=("summary", "block"), causal=True, merge=False, stride=5)
    x = torch.randn(2, 13, 8, requires_grad=True)
    part(Tokens(x, (13, 1))).image.square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    with record_attention(part) as maps:
        part(Tokens(x, (13, 1)))
    assert not maps[""][0][:, 0, :4].any()  # no summary before the fifth token


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        ("sparse(heads=1, merge=false)", "heads=1 cannot take 2 patterns in turn: use merge=true"),
        ("sparse(patterns=(rows,))", "there is no pattern 'rows': choose from"),
        ("sparse(stride=2, summary=3)", "summary at most stride"),
        ("longformer(window=3)", "window is even and at least 2, not 3"),
        ("longformer(global_tokens=(16,))", "global_tokens are 0 to 15 in this map"),
    ],
)
def test_what_does_not_fit_is_one_sentence(edit: str, sentence: str) -> None:
    with pytest.raises(HexavitError, match=sentence.replace("(", r"\(")):
        hexavit.create_model("vit_tiny_patch16_224", img_size=64, overrides=[f"stages.0.attention={edit}"])
