import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.using import CLASSES, trained

from hexavit.app.pictures import photographs, read_upload, run_images
from hexavit.errors import DataError


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds one short line."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)).save(file, format="jpeg")
    return file.getvalue()


HOSTILE = {
    "empty.png": b"",
    "text.png": b"no image",
    "page.html": b"<script>alert(1)</script>",
    "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "truncated.jpg": jpeg()[:700],
    "bomb.png": png_header(60_000, 60_000),
    "large.png": png_header(9_000, 8_000),
    "array.npy": b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(118),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_ends_in_a_sentence(name: str, tmp_path: Path) -> None:
    path = tmp_path / "secret-folder" / name
    path.parent.mkdir()
    path.write_bytes(HOSTILE[name])
    with pytest.raises(DataError) as raised:
        read_upload(path)
    sentence = str(raised.value)
    assert sentence.startswith(name)
    assert "secret-folder" not in sentence
    assert "\n" not in sentence


def test_a_photograph_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    assert read_upload(tmp_path / "a.jpg").size == (64, 64)


def test_the_photographs_of_scikit_learn() -> None:
    assert {name: image.size for name, image in photographs().items()} == {"china": (640, 427), "flower": (640, 427)}


def test_images_of_a_run_are_its_validation_images() -> None:
    run = trained()
    found = run_images(run, 3)
    assert len(found) == 3
    assert {label for label, _ in found} <= set(CLASSES)
