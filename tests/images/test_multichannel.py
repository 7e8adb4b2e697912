"""Images of more channels than Pillow holds: read correctly or rejected in one sentence, and never unpickled."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hexavit.errors import DataError
from hexavit.images.decode import read_image, to_channels, to_multichannel, to_rgb_for_display
from hexavit.images.multichannel import MultichannelImage
from hexavit.images.preprocess import InputSpec

SIX = InputSpec((16, 16), 6, (0.5,) * 6, (0.25,) * 6, "bicubic", 0.875, "center")


def noise(*shape: int, kind: str = "uint8") -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 256, shape)
    return (values * 257 if kind == "uint16" else values).astype(kind)


def image_at(path: Path) -> MultichannelImage:
    found = read_image(path)
    assert isinstance(found, MultichannelImage)
    return found


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "float16", "int16", ">u2", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_as_they_stand(tmp_path: Path, kind: str, order: str) -> None:
    array = np.asarray(noise(5, 7, 6, kind=kind), order=order)
    np.save(tmp_path / "a.npy", array)
    found = image_at(tmp_path / "a.npy")
    assert (found.size, found.channels) == ((7, 5), 6)
    assert np.array_equal(found.pixels, array)
    assert found.fractions().shape == (6, 5, 7)
    assert (found.fractions().max() <= 1) == (np.dtype(kind).name in {"uint8", "uint16"})


def test_a_flat_array_has_one_channel(tmp_path: Path) -> None:
    np.save(tmp_path / "a.jpg.npy", noise(5, 7))
    (tmp_path / "a.jpg.npy").rename(tmp_path / "a.jpg")  # the content counts
    assert to_channels(read_image(tmp_path / "a.jpg"), 3).getpixel((2, 1)) == (int(noise(5, 7)[1, 2]),) * 3


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.array([{}], dtype=object), "this array holds object, not numbers"),
        (np.zeros((3, 3), dtype="U4"), "not numbers"),
        (np.zeros((2, 3, 4, 5)), "an image is an array of height, width and channels, not of (2, 3, 4, 5)"),
        (np.zeros((0, 3, 4)), "not of (0, 3, 4)"),
        (np.full((4, 4, 5), np.nan), "some of its values are no finite numbers"),
    ],
)
def test_arrays_that_are_no_images_are_named(tmp_path: Path, array: np.ndarray, sentence: str) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(DataError) as raised:
        read_image(tmp_path / "a.npy")
    assert str(raised.value) == f"{tmp_path / 'a.npy'}: {sentence}" or sentence in str(raised.value)


def test_a_wrong_size_in_a_header_allocates_no_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", noise(40, 40, 5))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "b.npy").write_bytes(content[:-1])
    with pytest.raises(DataError, match="this array is truncated"):
        read_image(tmp_path / "b.npy")
    (tmp_path / "c.npy").write_bytes(content.replace(b"(40, 40, 5), }  ", b"(90000, 9999),} "))
    with pytest.raises(DataError, match=r"this array would take|is truncated"):
        read_image(tmp_path / "c.npy")


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_of_many_samples(tmp_path: Path, planar: str, kind: str, compression: str | None) -> None:
    tifffile = pytest.importorskip("tifffile")
    array = noise(12, 10, 6, kind=kind)
    given = array if planar == "contig" else np.moveaxis(array, -1, 0)
    options = {"planarconfig": planar, "photometric": "minisblack", "compression": compression}
    tifffile.imwrite(tmp_path / "a.tif", given, **options)
    assert np.array_equal(image_at(tmp_path / "a.tif").pixels, array)


def test_tiff_that_is_broken_is_named(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", noise(12, 10, 6), photometric="minisblack", planarconfig="contig")
    content = (tmp_path / "a.tif").read_bytes()
    for number in range(0, len(content), 7):
        (tmp_path / "a.tif").write_bytes(content[:number])
        with pytest.raises(DataError, match=r"a\.tif: "):
            read_image(tmp_path / "a.tif")


def test_tiff_without_its_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", noise(12, 10, 6), photometric="minisblack", planarconfig="contig")
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    with pytest.raises(DataError, match=r"more than four channels needs tifffile: pip install 'hexavit\[tiff\]'"):
        read_image(tmp_path / "a.tif")


def test_pictures_of_four_channels_are_bands_too(tmp_path: Path) -> None:
    Image.fromarray(noise(6, 5, 4)).save(tmp_path / "a.png")
    assert np.array_equal(to_multichannel(read_image(tmp_path / "a.png"), 4).pixels, noise(6, 5, 4))
    with pytest.raises(DataError, match=r"the model takes 6 channels, and this image has 4 \(RGBA\)"):
        to_multichannel(read_image(tmp_path / "a.png"), 6)


def test_many_channels_do_not_become_colours() -> None:
    with pytest.raises(DataError, match="an image of 6 x uint8 cannot become grey or RGB"):
        to_channels(MultichannelImage(noise(4, 4, 6)), 3)
    with pytest.raises(DataError, match="an image of 3 x float32 cannot become grey or RGB"):
        to_channels(MultichannelImage(noise(4, 4, 3, kind="float32")), 3)
    assert to_channels(MultichannelImage(noise(4, 4, 3, kind="uint16")), 3).getpixel((1, 2)) == tuple(
        noise(4, 4, 3)[2, 1]
    )


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_eyes_see_something(channels: int) -> None:
    assert to_rgb_for_display(MultichannelImage(noise(8, 9, channels, kind="float32"))).size == (9, 8)
    assert to_rgb_for_display(MultichannelImage(np.zeros((8, 9, channels), np.float32))).mode == "RGB"


@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("size", [(40, 30), (9, 50), (16, 16)])
def test_the_input_is_cut_as_pictures_are(mode: str, size: tuple[int, int]) -> None:
    """Three channels twice: each half is what timm makes of the picture, but for its rounding to bytes."""
    picture = noise(*size, 3)
    picture = np.asarray(Image.fromarray(picture).resize((size[1] // 2, size[0] // 2)).resize((size[1], size[0])))
    three = InputSpec((16, 16), 3, (0.5,) * 3, (0.25,) * 3, "bilinear", 0.875, mode)
    six = replace(SIX, interpolation="bilinear", crop_mode=mode)
    made = six.transform()(MultichannelImage(np.concatenate([picture, picture], axis=2)))
    expected = three.transform()(Image.fromarray(picture))
    assert made.shape == (6, 16, 16)
    for half in (made[:3], made[3:]):
        torch.testing.assert_close(half, expected, atol=0.05, rtol=0)


def test_pixels_and_normalise_are_the_transform() -> None:
    for spec, image in (
        (SIX, MultichannelImage(noise(30, 20, 6))),
        (
            InputSpec((16, 16), 3, (0.4, 0.5, 0.6), (0.2, 0.3, 0.1), "bicubic", 0.9, "center"),
            Image.new("RGB", (9, 20)),
        ),
        (InputSpec((16, 24), 1, (0.4,), (0.2,), "bilinear", 1.0, "squash"), Image.effect_noise((31, 20), 50)),
    ):
        whole, parts = spec.transform()(image), spec.normalise(torch.stack([spec.pixels()(image)] * 2))
        assert torch.equal(parts[1], whole)
    assert SIX.from_dict(json.loads(json.dumps(SIX.as_dict()))) == SIX
