import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from hexavit.errors import DataError
from hexavit.images.decode import read_image
from hexavit.images.prefetch import decode_ahead, work_ahead
from hexavit.images.preprocess import InputSpec

SPEC = InputSpec((16, 16), 3, (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0, "center")


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_the_order_is_kept_and_the_look_ahead_is_bounded(threads: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    def work(number: int) -> int:
        time.sleep(0.003 if number % 3 else 0)
        return number * number

    for place, done in enumerate(work_ahead(items(), work, threads, ahead=4)):
        assert done == place * place
        assert len(taken) <= place + 1 + 4 + 1
    assert len(taken) == 50


def test_stopping_early_ends_all_threads() -> None:
    before = threading.active_count()
    work = work_ahead(iter(range(1000)), lambda number: number, 3, ahead=8)
    assert [next(work), next(work)] == [0, 1]
    work.close()
    assert threading.active_count() == before


def test_files_are_decoded_or_named(tmp_path: Path) -> None:
    Image.effect_noise((20, 30), 50).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"nothing")
    (tmp_path / "c.npy").write_bytes(b"")
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.npy", "a.png")]
    found = list(decode_ahead(paths, SPEC.pixels(), 2, ahead=2))
    assert [path for path, _ in found] == paths
    assert torch.equal(found[0][1], found[3][1])
    assert found[0][1].dtype == torch.uint8
    assert [str(made).startswith(str(path)) for path, made in found if isinstance(made, DataError)] == [True, True]


def test_threads_leave_pythons_warnings_as_they_were(tmp_path: Path) -> None:
    """Pillow warns of EXIF data that is cut off; the filters that hush it belong to all threads."""
    for number in range(60):
        Image.new("RGB", (40, 40)).save(tmp_path / f"{number}.tif", description="x" * 50)
        content = bytearray((tmp_path / f"{number}.tif").read_bytes())
        content[-40:] = b"\xff" * 40
        (tmp_path / f"{number}.tif").write_bytes(content)

    def read(number: int) -> object:
        try:
            return read_image(tmp_path / f"{number}.tif")
        except DataError as error:
            return error

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        list(work_ahead(iter(range(60)), read, 4, ahead=16))
        assert list(warnings.filters) == before
        with pytest.raises(UserWarning):
            warnings.warn("heard", stacklevel=1)
