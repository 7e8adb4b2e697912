"""Corrupt files: each is read or is an error of one sentence; no crash, no hang, no growing memory."""

import contextlib
import json
import re
import subprocess
import sys
from pathlib import Path

from hexavit.images.decode import read_image

KINDS = {"a.bmp": {}, "a.gif": {}, "a.jpg": {"exif": True}, "a.pgm": {}, "a.png": {}, "a.tif": {}, "a.webp": {}}
KINDS |= {"b.tif": {"compression": "tiff_lzw"}, "b.png": {"mode": "I;16"}, "b.jpg": {"mode": "CMYK"}}
BANDS = ("c.npy", "c.tif")  # of six channels
COUNT = 2400


def make_images(folder: Path) -> list[bytes]:
    """Crops of a photograph in every kind of file."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_image

    photograph = Image.fromarray(load_sample_image("china.jpg")).crop((300, 150, 348, 190))
    exif = Image.Exif()
    exif[0x0112] = 6
    made = []
    for name, options in KINDS.items():
        mode = "L" if name == "a.pgm" else str(options.pop("mode", "RGB"))
        grey = np.asarray(photograph.convert("L")).astype(np.uint16) * 257
        image = Image.fromarray(grey) if mode == "I;16" else photograph.convert(mode)
        if options.pop("exif", False):
            options["exif"] = exif
        image.save(folder / name, **options)
        made.append((folder / name).read_bytes())
    bands = np.concatenate([np.asarray(photograph)] * 2, axis=2)
    np.save(folder / BANDS[0], bands)
    with contextlib.suppress(ImportError):  # without it, such files are an error
        from tifffile import imwrite

        imwrite(folder / BANDS[1], bands, photometric="minisblack", planarconfig="contig", compression="zlib")
    return made + [path.read_bytes() for name in BANDS if (path := folder / name).exists()]


def corrupt_bytes(content: bytes, number: int) -> bytes:
    """One of seven ways to harm a file, drawn by its number."""
    import random

    draw, corrupt = random.Random(number), bytearray(content)
    place, way = draw.randrange(len(corrupt)), number % 7
    if way == 0:
        return bytes(corrupt[:place])  # cut off
    if way == 1:
        for _ in range(1 + place % 9):
            corrupt[draw.randrange(len(corrupt))] ^= 1 << draw.randrange(8)
    elif way == 2:
        corrupt[place : place + 64] = bytes(min(64, len(corrupt) - place))
    elif way == 3:
        del corrupt[place : place + draw.randrange(1, 200)]
    elif way == 4:
        corrupt[place:place] = corrupt[: draw.randrange(1, 200)]
    elif way == 5:  # the header, where sizes and offsets stand
        for _ in range(4):
            corrupt[draw.randrange(min(48, len(corrupt)))] = draw.choice((0, 1, 0x7F, 0x80, 0xFF))
    else:
        corrupt[place:] = draw.randbytes(len(corrupt) - place)
    return bytes(corrupt)


def read_all(folder: Path) -> None:
    """Damage, write and read all files; print the counts as JSON."""
    import resource
    import time

    from hexavit.errors import DataError

    made = make_images(folder)
    before, slowest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0.0
    read, wrong, rejected = 0, [], 0
    for number in range(COUNT):
        path = folder / f"{number:04d}{Path([*KINDS, *BANDS][number % len(made)]).suffix}"
        path.write_bytes(corrupt_bytes(made[number % len(made)], number))
        began = time.process_time()
        try:
            image = read_image(path)
            read += image.width * image.height > 0
        except DataError as error:
            rejected += 1
            if not str(error).startswith(f"{path}: ") or not str(error).isprintable():
                wrong.append(str(error))
        slowest = max(slowest, time.process_time() - began)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"read": read, "rejected": rejected, "wrong": wrong, "slowest": slowest, "grown": grown * 1024}))


def test_two_thousand_corrupt_files(tmp_path: Path) -> None:
    # A process of its own: a decoder that crashes would take the tests with it, and its memory can be read.
    call = [sys.executable, "-W", "error", __file__, str(tmp_path)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert not re.search("Traceback|Warning|Error", done.stderr)  # libtiff itself reports broken LZW data there
    found = json.loads(done.stdout)
    assert found["read"] + found["rejected"] == COUNT
    assert min(found["read"], found["rejected"]) > 300  # the harm is neither too small nor too great
    assert found["wrong"] == []
    assert found["slowest"] < 5
    assert found["grown"] < 700 * 2**20  # the largest image that is decoded at all has 89 million pixels


if __name__ == "__main__":
    read_all(Path(sys.argv[1]))
