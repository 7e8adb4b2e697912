"""Attention maps on the pixel grid, against maps computed plainly."""

import resource
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

import hexavit
from hexavit import Architecture, Backbone, HexavitError, Part, Stage
from hexavit.explain import AttentionMap, attention_maps, attention_matrix
from hexavit.explain import reading as reading_module


def one_block(attention: Part, *edits: str, size: tuple[int, int] = (8, 8), head: str = "pool") -> Backbone:
    """A model of one block whose tokens are the pixels, two by two."""
    torch.manual_seed(0)
    tokens = Part("conv", kernel=2, stride=2, padding=0)
    stage = Stage(8, 1, tokens=tokens, attention=attention)
    architecture = Architecture("tiny", (stage,), Part(head), num_classes=2, img_size=(2 * size[0], 2 * size[1]))
    return Backbone(architecture.override(edits)).eval()


def entering(model: Backbone, image: Tensor) -> Tensor:
    """The tokens that enter the attention (N, C), behind the norm."""
    found = []
    part = model.stages[0].blocks[0].attention
    handle = part.register_forward_pre_hook(lambda _, args: found.append(args[0].sequence[0]))
    model.forward_features(image[None])
    handle.remove()
    return found[0]


def softmax_of(q: Tensor, k: Tensor, heads: int) -> np.ndarray:
    """softmax(q k^T / sqrt(d)) of each head (h, N, M), in double precision and in NumPy."""
    split = [each.detach().double().unflatten(1, (heads, -1)).permute(1, 0, 2).numpy() for each in (q, k)]
    logits = split[0] @ split[1].transpose(0, 2, 1) / split[0].shape[2] ** 0.5
    exponentials = np.exp(logits - logits.max(axis=2, keepdims=True))
    return exponentials / exponentials.sum(axis=2, keepdims=True)


@pytest.fixture
def image() -> Tensor:
    return torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_global_attention_from_a_pixel_the_class_token_and_in_mean(image: Tensor) -> None:
    model = one_block(Part("global", heads=2), head="class_token")
    q, k, _ = model.stages[0].blocks[0].attention.qkv(entering(model, image)).chunk(3, dim=1)
    expected = softmax_of(q, k, 2)  # the class token is the first of 65
    asked: Sequence[tuple[object, np.ndarray]] = [
        ((5, 15), expected[:, 1 + 7 * 8 + 2]),  # x = 5 is column 2, y = 15 row 7
        ("class", expected[:, 0]),
        ("auto", expected[:, 0]),
        ("mean", expected[:, 1:].mean(axis=1)),
    ]
    for query, row in asked:
        (found,) = attention_maps(model, image, query=query, head="all")  # type: ignore[arg-type]  # what it takes
        np.testing.assert_allclose(found.cells.reshape(2, 64), row[:, 1:], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found.extra, row[:, :1], rtol=1e-4, atol=1e-6)
        assert not found.padding.any()
    (one,), (mean,) = (attention_maps(model, image, query="class", head=head) for head in (-1, "mean"))  # type: ignore[arg-type]
    np.testing.assert_allclose(one.cells[0].ravel(), expected[1, 0, 1:], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(mean.cells[0].ravel(), expected[:, 0, 1:].mean(axis=0), rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_windows_are_put_back_to_their_places(image: Tensor) -> None:
    """Cell (2, 7) of 8 x 8, in windows of 4 shifted by 2: its neighbours are rows 2 to 5 and columns 6 and 7."""
    model = one_block(Part("window", heads=2, window=4, shifted=True))
    q, k, _ = model.stages[0].blocks[0].attention.qkv(entering(model, image)).chunk(3, dim=1)
    (found,) = attention_maps(model, image, query=(15, 4), head="all")
    there = [row * 8 + column for row in range(2, 6) for column in (6, 7)]
    expected = np.zeros((2, 64))
    expected[:, there] = softmax_of(q[[2 * 8 + 7]], k[there], 2)[:, 0]
    np.testing.assert_allclose(found.cells.reshape(2, 64), expected, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_keys_are_spread_over_the_cells_for_which_they_stand(image: Tensor) -> None:
    model = one_block(Part("spatial_reduction", heads=2, sr_ratio=4))
    part, tokens = model.stages[0].blocks[0].attention, entering(model, image)
    patches = tokens.T.reshape(1, 8, 2, 4, 2, 4).permute(0, 2, 4, 1, 3, 5).reshape(4, -1)  # each of 4 keys, its cells
    keys = part.norm(patches @ part.reduction.conv.weight.flatten(1).T + part.reduction.conv.bias)
    expected = softmax_of(part.q(tokens), part.kv(keys).chunk(2, dim=1)[0], 2)[:, 9].reshape(2, 2, 2)
    (found,) = attention_maps(model, image, query=(3, 3), head="all")  # cell (1, 1)
    np.testing.assert_allclose(found.cells, np.kron(expected, np.full((4, 4), 1 / 16)), rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_overlapping_kernels_share_their_cells(image: Tensor) -> None:
    """Keys of a 3 x 3 kernel of stride 2: key i reads rows 2 i - 1 to 2 i + 1, without row -1. Odd rows but the last
    are read by two keys, and count half in each."""
    model = one_block(Part("conv_projection", heads=1, stride_kv=2))
    part = model.stages[0].blocks[0].attention
    grid = entering(model, image).T.reshape(1, 8, 8, 8)
    q, k = (conv(grid).flatten(2)[0].T for conv in (part.conv_q, part.conv_k))
    weights = softmax_of(part.proj_q(q) * 1.0, part.proj_k(k), 1)[0, 0].reshape(4, 4)
    shares = np.zeros((4, 8))
    shares[0, [0, 1]] = 2 / 3, 1 / 3
    shares[1, [1, 2, 3]] = shares[2, [3, 4, 5]] = 1 / 4, 1 / 2, 1 / 4
    shares[3, [5, 6, 7]] = 1 / 5, 2 / 5, 2 / 5
    expected = shares.T @ weights @ shares
    (found,) = attention_maps(model, image, query=(0, 0))
    np.testing.assert_allclose(found.cells[0], expected, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_padding_is_apart() -> None:
    model = one_block(Part("window", heads=1, window=4, shrink=False), size=(5, 8))
    (found,) = attention_maps(model, torch.randn(3, 10, 16), query=(0, 9))  # the last row is alone in its windows
    assert found.cells[0, :4].max() == 0
    assert found.cells[0, 4, 4:].max() == 0
    assert found.padding[0] > 0.5  # 12 of 16 keys
    np.testing.assert_allclose(found.cells.sum() + found.padding[0], 1, rtol=1e-5)


@torch.no_grad()
def test_words_attend_in_their_patch() -> None:
    """TNT: each patch of 16 x 16 pixels has 4 x 4 words; a word reads those of its patch, each at its place."""
    torch.manual_seed(0)
    model = hexavit.create_model("tnt_s_patch16_224", img_size=(32, 48)).eval()
    image, block = torch.randn(3, 32, 48), model.stages[0].blocks[1]
    inner, given = block.words.attention, []
    handle = inner.register_forward_hook(lambda _, args, out: given.append(args[0].body))
    words, patches = attention_maps(model, image, block=1, query=(26, 20), head="all")  # row 1, column 1 of patches
    handle.remove()
    assert (words.path, words.query_grid, words.query_cell) == ("stages.0.blocks.1.words.attention", (8, 12), (5, 6))
    assert (patches.path, patches.query_grid) == ("stages.0.blocks.1.attention", (2, 3))
    q, k, _ = inner.qkv(given[0][4]).chunk(3, dim=1)  # patch 1 * 3 + 1; its word is 1 * 4 + 2
    q, k = (each.unflatten(1, (inner.heads, -1)).transpose(0, 1) for each in (q, k))
    expected = torch.zeros(inner.heads, 8, 12)
    expected[:, 4:8, 4:8] = (q @ k.mT * inner.head_dim**-0.5).softmax(dim=2)[:, 6].unflatten(1, (4, 4))
    np.testing.assert_allclose(words.cells, expected.numpy(), rtol=1e-5, atol=1e-7)


def test_a_map_at_each_pixel() -> None:
    cells = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    found = AttentionMap("", 0, 0, "mean", None, (2, 3), (4, 9), ("mean",), cells, cells[:, :0, 0], cells[:, 0, 0])
    np.testing.assert_array_equal(found.pixels()[0], np.kron(cells[0], np.ones((2, 3))))
    assert found.pixels(smooth=True).shape == (1, 4, 9)


@torch.no_grad()
def test_the_pass_stays_fused_and_nothing_stays_behind(image: Tensor) -> None:
    model = hexavit.create_model("cvt_nano", img_size=32).eval()
    images = torch.randn(1, 3, 32, 32)
    before = model(images)
    assert len(attention_maps(model, images[0])) == 4
    assert torch.equal(model(images), before)
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert {part.reader for part in model.modules() if isinstance(part, hexavit.parts.attention.Attention)} == {None}


@torch.no_grad()
def test_pieces_give_the_same(image: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    model = hexavit.create_model("swin_nano", img_size=64).eval()
    images = torch.randn(3, 64, 64)
    whole = [found.cells for found in attention_maps(model, images, query="mean")]
    matrix, queries, keys = attention_matrix(model, images, stage=0, head="all")
    monkeypatch.setattr(reading_module, "PIECE", 300)
    pieces = [found.cells for found in attention_maps(model, images, query="mean")]
    for one, other in zip(whole, pieces, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-7)
    (mean,) = attention_maps(model, images, stage=0, block=-1, query="mean", head="all")
    assert queries == keys == mean.cells.shape[1:]
    np.testing.assert_allclose(matrix.mean(axis=1), mean.cells.reshape(len(mean.cells), -1), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", hexavit.list_models("*nano*"))
def test_every_system_has_maps(name: str) -> None:
    model = hexavit.create_model(name).eval()
    height, width = model.architecture.img_size
    for query in ("auto", (width - 1, height // 2)):
        for found in attention_maps(model, torch.randn(model.in_chans, height, width), query=query):  # type: ignore[arg-type]
            assert np.isfinite(found.pixels()).all()
            if model.get_submodule(found.path).maps_are == "probabilities":
                total = found.cells.sum() + found.extra.sum() + found.padding.sum()
                assert total == pytest.approx(1, abs=1e-4)


@pytest.mark.slow
def test_memory_is_bounded_at_1024() -> None:
    """Stage 0 has 65,536 queries and 16,384 keys: 4 GiB of weights a head."""
    model = hexavit.create_model("cvt_13", img_size=1024).eval()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (found,) = attention_maps(model, torch.randn(3, 1024, 1024), stage=0, query=(512, 300))
    assert found.cells.shape == (1, 256, 256)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 2.5e9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stage": 3}, "there is no stage 3: there are 3, 0 to 2"),
        ({"stage": 0, "block": 1}, "there is no block 1: there are 1, 0 to 0"),
        ({"head": 9}, "there is no head 9"),
        ({"query": (32, 0)}, "there is no pixel x=32, y=0 in an image of 32 x 32"),
        ({"query": "clas"}, "query is a pixel"),
        ({"query": "class", "stage": 0}, "no class token takes part"),
    ],
)
def test_errors_are_one_sentence(options: dict[str, object], message: str) -> None:
    model = hexavit.create_model("cvt_nano", img_size=32).eval()
    with pytest.raises(HexavitError, match=message):
        attention_maps(model, torch.zeros(3, 32, 32), **options)  # type: ignore[arg-type]


def test_models_of_others_are_rejected() -> None:
    with pytest.raises(HexavitError, match=r"only models of hexavit\.create_model"):
        attention_maps(torch.nn.Linear(1, 1), torch.zeros(3, 32, 32))
