import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hexavit.errors import DataError
from hexavit.images.decode import peak_of_16_bits, read_image, to_channels, white_of
from hexavit.images.listing import find_images


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_the_requested_channels(tmp_path: Path, mode: str, channels: int) -> None:
    Image.new("RGB", (5, 4), (200, 100, 50)).convert(mode).save(tmp_path / "a.png")
    image = to_channels(read_image(tmp_path / "a.png"), channels)
    assert (len(image.getbands()), image.size) == (channels, (5, 4))


def test_cmyk_is_read_in_its_colours(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (250, 10, 10)).convert("CMYK").save(tmp_path / "a.jpg")
    red, green, _ = to_channels(read_image(tmp_path / "a.jpg"), 3).getpixel((8, 8))
    assert red > 200 > 60 > green


def test_sixteen_bits_keep_their_range(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16)).save(tmp_path / "a.png")
    assert list(read_image(tmp_path / "a.png").get_flattened_data()) == [0, 128, 255]


def test_a_rotated_photograph_stands_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").size == (4, 8)


def test_a_palette_with_transparency_gives_no_warning(tmp_path: Path) -> None:
    Image.new("P", (4, 4)).save(tmp_path / "a.png", transparency=b"\x00\x80")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert to_channels(read_image(tmp_path / "a.png"), 3).mode == "RGB"


@pytest.mark.parametrize("content", [b"not an image", b"\x89PNG\r\n\x1a\n" + b"\x00" * 40])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.png: this is not an image that can be read"):
        read_image(tmp_path / "broken.png")


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:1500])
    with pytest.raises(DataError, match=r"half\.png: .* truncated"):
        read_image(tmp_path / "half.png")


def test_a_decompression_bomb_raises_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9_000)
    with pytest.raises(DataError, match="decompression bomb"):
        read_image(tmp_path / "large.png")


def test_pixels_of_32_bits_raise_an_error(tmp_path: Path) -> None:
    Image.new("F", (4, 4)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="no agreed range"):
        read_image(tmp_path / "a.tif")


def test_two_channels_raise_an_error() -> None:
    with pytest.raises(DataError, match=r"1 channel \(grey\) or 3 \(RGB\), not 2"):
        to_channels(Image.new("L", (2, 2)), 2)


def test_files_are_found_in_order_and_hidden_ones_left(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "sub/c.webp", ".hidden.png", ".cache/d.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [p.relative_to(tmp_path).as_posix() for p in find_images([tmp_path])] == ["a.jpg", "b.PNG", "sub/c.webp"]
    assert find_images([tmp_path / "notes.txt"]) == [tmp_path / "notes.txt"]  # what is named is meant


def test_a_folder_without_images_raises_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no image"):
        find_images([tmp_path])


@pytest.mark.parametrize("maximum", [255, 65535])
def test_a_grey_map_keeps_its_range(tmp_path: Path, maximum: int) -> None:
    width = 1 if maximum < 256 else 2
    pixels = b"".join(value.to_bytes(width, "big") for value in (0, maximum // 2 + 1, maximum))
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 %d\n" % maximum + pixels)
    assert list(read_image(tmp_path / "a.pgm").get_flattened_data()) == [0, 128, 255]


def test_sixteen_bits_a_colour_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.ppm").write_bytes(b"P6 1 1 65535\n" + b"\xff\xff\x80\x00\x00\x00")
    assert read_image(tmp_path / "a.ppm").getpixel((0, 0)) == (255, 128, 0)


@pytest.mark.parametrize("mode", ["LAB", "YCbCr", "RGBX", "CMYK", "1", "LA", "I;16B"])
@pytest.mark.parametrize("channels", [1, 3])
def test_modes_of_tiff_become_the_requested_channels(tmp_path: Path, mode: str, channels: int) -> None:
    # Pillow 12.3 writes YCbCr without compression as a file that it cannot read.
    Image.new(mode, (6, 6)).save(tmp_path / "a.tif", compression="tiff_lzw" if mode == "YCbCr" else None)
    assert len(to_channels(read_image(tmp_path / "a.tif"), channels).getbands()) == channels


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tiff"])
def test_of_an_animation_the_first_frame_is_read(tmp_path: Path, kind: str) -> None:
    red, blue = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    red.save(tmp_path / f"a.{kind}", save_all=True, append_images=[blue])
    assert to_channels(read_image(tmp_path / f"a.{kind}"), 3).getpixel((4, 4))[0] > 200


@pytest.mark.parametrize("name", ["A.JPG", "a photo.of me.jpg", "läufer-走.jpg", "-rf.jpg", "a\nb.jpg", "\udcff.jpg"])
def test_odd_names_are_read(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (8, 4)).save(tmp_path / name, format="jpeg")
    (found,) = find_images([tmp_path])
    assert read_image(found).size == (8, 4)
    found.write_bytes(b"broken")
    with pytest.raises(DataError) as raised:
        read_image(found)
    assert str(raised.value).isprintable()


def test_the_content_counts_and_not_the_ending(tmp_path: Path) -> None:
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", format="png")
    assert read_image(tmp_path / "a.jpg").size == (8, 4)
    (tmp_path / "b.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(DataError, match=r"b\.jpg: this is not an image that can be read \(its content is none of BMP"):
        read_image(tmp_path / "b.jpg")


def test_exif_that_is_garbage_does_not_stop_the_reading(tmp_path: Path) -> None:
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff rubbish")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / "a.jpg").size == (8, 4)


def test_what_is_no_file_is_named_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "ring.png").symlink_to(tmp_path / "gnir.png")
    (tmp_path / "gnir.png").symlink_to(tmp_path / "ring.png")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "empty.png").touch()
    messages = {
        tmp_path / "pipe.png": "this is a pipe, not an image file",
        tmp_path / "ring.png": "this file cannot be reached (Too many levels of symbolic links)",
        tmp_path / "nowhere.png": "there is no such image file",
        tmp_path / "empty.png": "this file is empty",
        tmp_path: "this is a folder, not an image file",
        Path("/dev/null"): "this is a device, not an image file",
        tmp_path / ("a" * 300): "this file cannot be reached (File name too long)",
        tmp_path / "\x00.png": "this file cannot be reached (embedded null byte)",
    }
    for path, sentence in messages.items():
        with pytest.raises(DataError) as raised:
            read_image(path)
        assert str(raised.value).endswith(f": {sentence}")
    assert len(find_images([tmp_path])) == 5


def test_rings_of_folders_end(tmp_path: Path) -> None:
    Image.new("L", (2, 2)).save(tmp_path / "a.png")
    (tmp_path / "again").symlink_to(tmp_path)
    assert find_images([tmp_path]) == [tmp_path / "a.png"]


def ramp(peak: int, kind: str = "grey") -> np.ndarray:
    """16-bit values from 0 to ``peak`` in 16 equal steps, as (16, 16) or (16, 16, 3)."""
    values = np.tile(np.linspace(0, peak, 16).round().astype(np.uint16), (16, 1))
    return values if kind == "grey" else np.stack([values] * 3, axis=2)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(("peak", "white"), [(4095, 4095), (1023, 1023), (3000, 4095), (200, 255), (16000, 16383)])
def test_fewer_than_16_bits_use_the_whole_range(tmp_path: Path, suffix: str, peak: int, white: int) -> None:
    Image.fromarray(ramp(peak)).save(tmp_path / f"a.{suffix}")
    image = read_image(tmp_path / f"a.{suffix}", keep_16_bits=True)
    assert (image.mode, peak_of_16_bits(image), white_of(peak)) == ("I;16", peak, white)
    expected = np.floor(ramp(peak) * 256.0 / (white + 1))
    for channels in (1, 3):
        found = np.asarray(to_channels(image, channels, white)).reshape(16, 16, channels)
        assert np.array_equal(found, np.repeat(expected[..., None], channels, axis=2))


@pytest.mark.parametrize("peak", [65535, 40000, 20000])
def test_16_bits_are_not_brightened(tmp_path: Path, peak: int) -> None:
    assert white_of(peak) == 65535
    Image.fromarray(ramp(peak)).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", keep_16_bits=True)
    assert np.array_equal(np.asarray(to_channels(image, 1)), ramp(peak) // 256)
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.png")), ramp(peak) // 256)


def test_colours_of_16_bits_are_brightened_from_their_upper_8(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", ramp(4095, "RGB"), photometric="rgb")
    image = read_image(tmp_path / "a.tif", keep_16_bits=True)
    assert peak_of_16_bits(image) == 4095
    found = np.asarray(to_channels(image, 3, 4095)).astype(int)
    assert np.array_equal(found, ramp(4095, "RGB") // 256 * 16)
    Image.new("RGB", (4, 4), (9, 9, 9)).save(tmp_path / "b.png")
    eight = read_image(tmp_path / "b.png", keep_16_bits=True)
    assert peak_of_16_bits(eight) is None
    assert to_channels(eight, 3, 4095).getpixel((0, 0)) == (9, 9, 9)


def test_a_grey_map_keeps_its_stated_maximum(tmp_path: Path) -> None:
    pixels = b"".join(value.to_bytes(2, "big") for value in (0, 1024, 4095))
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 4095\n" + pixels)
    image = read_image(tmp_path / "a.pgm", keep_16_bits=True)
    assert (image.mode, list(image.get_flattened_data())) == ("L", [0, 64, 255])
