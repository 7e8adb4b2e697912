"""Analyses, against plain computations in small cases."""

import numpy as np
import pytest
import torch
from tests.explain.test_attention import one_block

import hexavit
from hexavit import HexavitError, Part, record_attention
from hexavit.explain import analyses, figures


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_uniform_attention_looks_as_far_as_cells_are_apart() -> None:
    """Four cells of 2 x 2 pixels on 4 x 4 with equal weights: distances 0, 2, 2 and sqrt(8)."""
    model = one_block(Part("global", heads=2), size=(2, 2))
    torch.nn.init.zeros_(model.stages[0].blocks[0].attention.qkv.weight)
    (found,) = analyses.attention_distance(model, torch.randn(3, 4, 4))
    np.testing.assert_allclose(found.pixels, [(2 + 2 + 8**0.5) / 4] * 2, rtol=1e-5)


def test_similarity_of_maps_is_the_cosine_of_their_rows(image: torch.Tensor) -> None:
    model = hexavit.create_model("deit_nano", img_size=32).eval()
    paths, found = analyses.attention_similarity(model, image)
    with torch.no_grad(), record_attention(model) as maps:
        model(image[None])
    first, last = (maps[path][0][0, :, 2:].numpy() for path in (paths[0], paths[-1]))
    cosines = (first * last).sum(2) / np.linalg.norm(first, axis=2) / np.linalg.norm(last, axis=2)
    np.testing.assert_allclose(found[0, -1], cosines.mean(), rtol=1e-4)
    np.testing.assert_allclose(np.diag(found), 1, rtol=1e-4)


def test_bias_tables_are_those_of_the_model() -> None:
    model = hexavit.create_model("swin_nano", img_size=64).eval()
    path, found = next(iter(analyses.bias_tables(model).items()))
    position = model.get_submodule(path)
    expected = position.table.detach().T.reshape(found.shape)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6)
    assert analyses.bias_tables(hexavit.create_model("swin_v2_nano", img_size=64).eval())


def test_position_similarity_is_one_with_itself() -> None:
    found = analyses.position_similarity(hexavit.create_model("deit_nano", img_size=32).eval())
    assert found.shape[:2] == found.shape[2:]
    np.testing.assert_allclose([found[i, i, i, i] for i in range(len(found))], 1, rtol=1e-5)


def test_sizes_points_masks_and_messengers(image: torch.Tensor) -> None:
    model = hexavit.create_model("cvt_nano", img_size=32).eval()
    assert next(iter(analyses.activation_size(model, image))) == "stages.0.blocks.0"
    points = hexavit.create_model("ps_vit_nano", img_size=32).eval()
    first, *_ = analyses.sampled_points(points, image)
    side = round(len(first) ** 0.5)
    assert first[0].tolist() == pytest.approx([32 / side / 2] * 2, abs=3)
    for masks in analyses.token_masks(hexavit.create_model("tokenlearner_nano", img_size=32).eval(), image):
        np.testing.assert_allclose(masks.sum(axis=(1, 2)), 1, rtol=1e-4)
    messengers = analyses.messenger_maps(hexavit.create_model("msg_nano", img_size=32).eval(), image)
    assert ((messengers > 0).sum(axis=(1, 2)) < messengers[0].size).all()  # a window each


def test_a_convolution_sees_its_kernel() -> None:
    model = one_block(Part("depthwise", kernel=3))
    found = analyses.receptive_field(model, torch.randn(2, 3, 16, 16))
    rows = np.flatnonzero(found.sum(axis=1))
    assert (rows.min(), rows.max()) == (6, 11)  # cells 3 to 5 of 2 pixels, around cell 4


def test_cka_is_one_for_the_same_blocks_up_to_rotation() -> None:
    model = hexavit.create_model("cvt_nano", img_size=32).eval()
    images = torch.randn(6, 3, 32, 32)
    paths, _, found = analyses.cka(model, model, images)
    np.testing.assert_allclose(np.diag(found), 1, rtol=1e-5)
    np.testing.assert_allclose(found, found.T, rtol=1e-4)
    assert found.min() >= 0
    assert found[0, -1] < 1 - 1e-4
    x, rotation = torch.randn(6, 4, 8), torch.linalg.qr(torch.randn(32, 32))[0]
    kernels = analyses._centred_kernel(x), analyses._centred_kernel(3 * (x.flatten(1) @ rotation))
    np.testing.assert_allclose(kernels[1], 9 * kernels[0], rtol=1e-3, atol=1e-3)
    assert len(paths) == 4


@pytest.mark.parametrize("function", [analyses.sampled_points, analyses.token_masks, analyses.messenger_maps])
def test_models_without_such_a_part_raise_one_sentence(function, image: torch.Tensor) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(HexavitError, match=r"cvt_nano|no extra tokens"):
        function(hexavit.create_model("cvt_nano", img_size=32).eval(), image)


def test_every_figure_is_drawn(image: torch.Tensor) -> None:
    model = hexavit.create_model("deit_nano", img_size=32).eval()
    paths, matrix = analyses.attention_similarity(model, image)
    drawn = [
        figures.draw_distances(analyses.attention_distance(model, image)),
        figures.draw_matrix(matrix, paths, paths),
        figures.draw_maps(analyses.receptive_field(model, image)[None]),
        figures.draw_sizes(analyses.activation_size(model, image)),
        figures.draw_points(image.permute(1, 2, 0).clamp(0, 1).numpy(), [np.ones((3, 2), np.float32)]),
        figures.draw_position_similarity(analyses.position_similarity(model)),
    ]
    assert all(figure.axes for figure in drawn)
