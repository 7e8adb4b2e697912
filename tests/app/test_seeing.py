import numpy as np
import pytest
import torch
from PIL import Image
from tests.using import trained

from hexavit.app.pictures import photographs, run_images
from hexavit.app.seeing import SIDE, attention_from, depends_on, principal_colours, see
from hexavit.app.sources import Sources
from hexavit.errors import HexavitError
from hexavit.explain import attribute
from hexavit.inference import predict

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_classes_are_those_of_predict(tmp_path: object) -> None:
    run = trained()
    (_, image), *_ = run_images(run, 1)
    image.save(f"{tmp_path}/digit.png")
    (expected,) = predict(run, [f"{tmp_path}/digit.png"], top=3)
    found = see(Sources([run.path]).load(str(run.path)), image, top=3)
    assert [name for name, _ in found.classes] == [name for name, _ in expected.top]
    for (_, one), (_, other) in zip(found.classes, expected.top, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize(
    ("model", "maps"),
    [("cvt_nano", 3), ("deit_nano", 4), ("ps_vit_nano", None), ("tokenlearner_nano", None), ("hrt_nano", 4)],
)
def test_every_kind_of_model_is_seen(model: str, maps: int | None) -> None:
    found = see(Sources().load(model), photographs()["china"])
    assert len(found.classes) == 5
    assert all(isinstance(picture, Image.Image) for picture, _ in found.maps)
    assert maps is None or len(found.maps) == maps
    assert max(found.picture.size) == SIDE


def test_a_click_is_a_pixel_of_the_input() -> None:
    found = see(Sources().load("cvt_nano"), photographs()["china"])
    assert found.size == (32, 32)
    assert found.pixel(0, 0) == (0, 0)
    assert found.pixel(SIDE - 1, 0) == (0, 31)
    assert found.pixel(SIDE / 2, SIDE / 4) == (8, 16)
    assert found.pixel(10 * SIDE, -5) == (0, 31)


def test_attention_has_a_map_for_each_stage_with_the_pixel_in_it() -> None:
    found = see(Sources().load("cvt_nano"), photographs()["china"])
    pictures = attention_from(found, 8, 24)
    assert [words.partition(":")[0] for _, words in pictures] == [
        "stage 0, block 0",
        "stage 1, block 0",
        "stage 2, block 1",
    ]
    x, y = 24.5 * SIDE / 32, 8.5 * SIDE / 32
    ring = (round(x + SIDE / 40) - 1, round(y))
    assert all(picture.getpixel(ring) == (0, 255, 255) for picture, _ in pictures)
    with pytest.raises(HexavitError, match="there is no pixel"):
        attention_from(found, 40, 0)


def test_an_unknown_method_is_an_error() -> None:
    found = see(Sources().load("cvt_nano"), photographs()["china"])
    with pytest.raises(HexavitError, match="there is no method"):
        depends_on(found, "guess", None)


def test_grad_cam_is_that_of_explain() -> None:
    found = see(Sources().load("cvt_nano"), photographs()["china"])
    model = found.shown.loaded.model
    expected = attribute(model, found.image[0], "gradcam", target=found.indices[1])
    ((picture, words),) = depends_on(found, "gradcam", found.indices[1])
    assert words == f"gradcam, {found.classes[1][0]}"
    row, column = np.unravel_index(expected.pixels().argmax(), expected.image_size)
    brightest = np.asarray(picture).astype(int).sum(axis=2)
    scale = SIDE // 32
    assert brightest[row * scale + scale // 2, column * scale + scale // 2] > brightest.mean()


def test_principal_colours_separate_two_areas() -> None:
    values = torch.zeros(5, 4, 6)
    values[:, :, 3:] = torch.tensor([1.0, 2, 0, -1, 3])[:, None, None]
    picture = principal_colours(values)
    assert picture.size == (6, 4)
    left, right = picture.getpixel((0, 0)), picture.getpixel((5, 3))
    assert abs(left[0] - right[0]) == 255
    assert {picture.getpixel((x, y)) for x in range(3) for y in range(4)} == {left}


def test_maps_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(HexavitError, match="not finite"):
        principal_colours(torch.full((2, 3, 3), float("nan")))
