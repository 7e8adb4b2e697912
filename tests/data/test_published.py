"""Published data through torchvision's loaders, on small copies in the published layouts."""

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import cifar, flowers102

from hexavit.data import PublishedSet, open_source
from hexavit.data.published import fetch
from hexavit.errors import DataError


def write_image(path: Path, colour: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), (colour, 100, 50)).save(path)


def whole(*_: object) -> bool:
    """A copy's check sums, when the copy is a small one."""
    return True


@pytest.mark.parametrize(
    ("name", "folder", "batches", "key", "meta"),
    [
        ("cifar10", "cifar-10-batches-py", [f"data_batch_{n}" for n in range(1, 6)], "labels", "batches.meta"),
        ("cifar100", "cifar-100-python", ["train"], "fine_labels", "meta"),
    ],
)
def test_cifar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, folder: str, batches: list[str], key: str, meta: str
) -> None:
    monkeypatch.setattr(cifar, "check_integrity", whole)
    (tmp_path / folder).mkdir()
    test = "test_batch" if name == "cifar10" else "test"
    for number, batch in enumerate([*batches, test]):
        pixels = np.full((4, 3072), number, dtype=np.uint8)
        (tmp_path / folder / batch).write_bytes(pickle.dumps({"data": pixels, key: [0, 1, 2, 0]}))
    names = ["cat", "dog", "frog"]
    (tmp_path / folder / meta).write_bytes(pickle.dumps({"label_names": names, "fine_label_names": names}))
    source = open_source(f"{name}:{tmp_path}")
    train = 4 * len(batches)
    assert {part: len(numbers) for part, numbers in source.parts.items()} == {"train": train, "test": 4}
    assert (source.classes, source.labels[:4], source.hints.size) == (tuple(names), (0, 1, 2, 0), (32, 32))
    assert (source.load(train).size, source.load(train).getpixel((0, 0))) == ((32, 32), (len(batches),) * 3)
    assert len(set(source.names)) == train + 4


def packed_bytes(content: bytes) -> bytes:
    """gzip-compressed, without the time: tests are named by the bytes, alike in every worker."""
    return gzip.compress(content, mtime=0)


def write_fashion_mnist(root: Path, packed: bool) -> Path:
    """20 training and 10 test images, every pixel of an image its number; returns the folder of the files."""
    folder = root if packed else root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    write = packed_bytes if packed else bytes
    for part, count in (("train", 20), ("t10k", 10)):
        pixels = np.arange(count, dtype=np.uint8).repeat(28 * 28)
        images = struct.pack(">IIII", 0x803, count, 28, 28) + pixels.tobytes()
        labels = struct.pack(">II", 0x801, count) + bytes(number % 10 for number in range(count))
        for kind, content in (("images-idx3", images), ("labels-idx1", labels)):
            (folder / f"{part}-{kind}-ubyte{'.gz' if packed else ''}").write_bytes(write(content))
    return folder


@pytest.mark.parametrize("packed", [True, False])
def test_fashion_mnist(tmp_path: Path, packed: bool) -> None:
    """IDX files as torchvision keeps them, and compressed in one folder as Debian's package does."""
    write_fashion_mnist(tmp_path, packed)
    source = open_source(f"fashion_mnist:{tmp_path}")
    assert {part: len(numbers) for part, numbers in source.parts.items()} == {"train": 20, "test": 10}
    assert (source.classes[0], source.classes[9]) == ("T-shirt/top", "Ankle boot")
    assert source.labels == tuple(number % 10 for number in range(20)) + tuple(range(10))
    image = source.load(23)
    assert (image.mode, image.size, image.getpixel((5, 5))) == ("L", (28, 28), 3)
    assert source.hints.channels == 1


TRAIN, TEST = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("packed", "name", "content", "sentence"),
    [
        (True, TEST, b"damaged", "t10k-labels-idx1-ubyte.gz: this file is damaged or incomplete (Not a gzipped file"),
        (
            True,
            TRAIN,
            -10,
            "train-images-idx3-ubyte.gz: this file is damaged or incomplete (Compressed file ended before",
        ),
        (True, TRAIN, None, "train-images-idx3-ubyte.gz: this file of Fashion-MNIST is missing"),
        (True, TEST, packed_bytes(struct.pack(">II", 0x801, 10) + bytes(9)), "announces 18 bytes, and it has 17"),
        (
            True,
            TEST,
            packed_bytes(struct.pack(">II", 0x801, 9) + bytes(9)),
            "do not belong together: 10 images and 9 labels",
        ),
        (
            True,
            TEST,
            packed_bytes(struct.pack(">II", 0x801, 10) + bytes([10] * 10)),
            "a label is 10; there are 10 classes",
        ),
        (
            False,
            TRAIN,
            -1,
            "train-images-idx3-ubyte: this IDX file is damaged: its header announces 15696 bytes, and it has",
        ),
        (False, TRAIN, b"", "train-images-idx3-ubyte: this is not an IDX file of bytes with 3 dimensions"),
        (False, TEST, struct.pack(">IIII", 0x803, 1, 1, 1), "t10k-labels-idx1-ubyte: this is not an IDX file of bytes"),
        (False, TRAIN, None, "no complete copy there (Dataset not found); `hexavit data fetch"),
    ],
)
def test_a_damaged_fashion_mnist_raises_one_sentence(
    tmp_path: Path, packed: bool, name: str, content: bytes | int | None, sentence: str
) -> None:
    """``content`` replaces that of a file; a number cuts so many bytes off, None removes the file."""
    file = write_fashion_mnist(tmp_path, packed) / f"{name}{'.gz' if packed else ''}"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:content] if isinstance(content, int) else content)
    with pytest.raises(DataError) as raised:
        open_source(f"fashion_mnist:{tmp_path}")
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_oxford_pets(tmp_path: Path) -> None:
    base = tmp_path / "oxford-iiit-pet"
    (base / "annotations").mkdir(parents=True)
    for part, shift in (("trainval", 0), ("test", 10)):
        lines = []
        for number, animal in enumerate(("Abyssinian", "beagle")):
            write_image(base / "images" / f"{animal}_{shift}.jpg", 50 * number)
            lines.append(f"{animal}_{shift} {number + 1} 1 1")
        (base / "annotations" / f"{part}.txt").write_text("\n".join(lines) + "\n")
    source = open_source(f"oxford_pets:{tmp_path}")
    assert (source.classes, source.parts) == (("Abyssinian", "Beagle"), {"train": (0, 1), "test": (2, 3)})
    assert source.names[3] == "oxford-iiit-pet/images/beagle_10.jpg"
    assert source.load(3).size == (12, 10)


def test_flowers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat

    monkeypatch.setattr(flowers102, "check_integrity", whole)
    base = tmp_path / "flowers-102"
    for number in range(1, 7):
        write_image(base / "jpg" / f"image_{number:05d}.jpg", number)
    savemat(base / "imagelabels.mat", {"labels": [1, 2, 1, 2, 1, 2]})
    savemat(base / "setid.mat", {"trnid": [1, 2], "valid": [3, 4], "tstid": [5, 6]})
    source = open_source(f"flowers102:{tmp_path}")
    assert source.parts == {"train": (0, 1), "val": (2, 3), "test": (4, 5)}
    assert (len(source.classes), source.labels) == (102, (0, 1) * 3)
    assert source.names[5] == "flowers-102/jpg/image_00006.jpg"


def test_imagenet(tmp_path: Path) -> None:
    wnids = {"n01440764": ("tench", "Tinca tinca"), "n01443537": ("goldfish",)}
    torch.save((wnids, []), tmp_path / "meta.bin")
    for part in ("train", "val"):
        for number, wnid in enumerate(wnids):
            write_image(tmp_path / part / wnid / f"{part}.JPEG", number)
    source = open_source(f"imagenet:{tmp_path}")
    assert (source.classes, source.labels) == (tuple(wnids), (0, 1, 0, 1))
    assert source.parts == {"train": (0, 1), "val": (2, 3)}
    assert source.names[2] == "val/n01440764/val.JPEG"


def test_nothing_is_downloaded_without_being_requested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(self: cifar.CIFAR10) -> None:
        asked.append(self.root)
        raise OSError("no network")

    monkeypatch.setattr(cifar.CIFAR10, "download", download)
    with pytest.raises(DataError, match=r"no complete copy there .*; `hexavit data fetch cifar10:.*` downloads it"):
        PublishedSet(f"cifar10:{tmp_path}")
    assert not asked
    with pytest.raises(DataError, match=r"no network\)$"):
        fetch(f"cifar10:{tmp_path}")
    assert asked == [str(tmp_path)]
