import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hexavit.errors import DataError
from hexavit.inference.images import find_images, read_image, to_channels


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_the_channels_asked_for(tmp_path: Path, mode: str, channels: int) -> None:
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


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\x00" * 40])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.png: this is not an image that can be read"):
        read_image(tmp_path / "broken.png")


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:1500])
    with pytest.raises(DataError, match=r"half\.png: .* truncated"):
        read_image(tmp_path / "half.png")


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9_000)
    with pytest.raises(DataError, match="decompression bomb"):
        read_image(tmp_path / "large.png")


def test_pixels_of_32_bits_are_refused(tmp_path: Path) -> None:
    Image.new("F", (4, 4)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="no agreed range"):
        read_image(tmp_path / "a.tif")


def test_two_channels_are_refused() -> None:
    with pytest.raises(DataError, match=r"1 channel \(grey\) or 3 \(RGB\), not 2"):
        to_channels(Image.new("L", (2, 2)), 2)


def test_files_are_found_in_order_and_hidden_ones_left(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "sub/c.webp", ".hidden.png", ".cache/d.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [p.relative_to(tmp_path).as_posix() for p in find_images([tmp_path])] == ["a.jpg", "b.PNG", "sub/c.webp"]
    assert find_images([tmp_path / "notes.txt"]) == [tmp_path / "notes.txt"]  # what is named is meant


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no image"):
        find_images([tmp_path])
