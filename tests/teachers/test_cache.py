import sqlite3
from pathlib import Path

import pytest
import torch
from tests.killing import in_process
from torch import Tensor

import hexavit
from hexavit.errors import RunError
from hexavit.images.preprocess import InputSpec
from hexavit.inference import LoadedModel
from hexavit.teachers import Teacher
from hexavit.teachers.cache import OutputCache

SPEC = InputSpec((32, 32), 3, (0.5,) * 3, (0.5,) * 3, "bilinear", 0.9, "center")


class Counted:
    """A function of images that counts its calls, and whose result depends on the batch, as rounding may."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        return images.flatten(1)[:, :2] + images.mean()


def test_an_image_is_computed_once(tmp_path: Path) -> None:
    images, compute = torch.randn(4, 3, 2, 2), Counted()
    cache = OutputCache(tmp_path / "cache", "a", 2)
    first = cache.get(images, compute)
    assert torch.equal(first, Counted()(images))
    assert torch.equal(cache.get(images[[2, 0, 0]], compute), first[[2, 0, 0]])  # not what that batch would give
    assert torch.equal(OutputCache(tmp_path / "cache", "a", 2).get(images, compute), first)
    assert compute.batches == [4]
    mixed = torch.cat((images[:1], torch.randn(1, 3, 2, 2)))
    found = cache.get(mixed, compute)
    assert torch.equal(found[0], first[0])
    assert torch.equal(found[1], Counted()(mixed)[1])
    assert compute.batches == [4, 2]


def test_another_view_teacher_or_precision_is_another_key(tmp_path: Path) -> None:
    images, compute = torch.randn(1, 3, 2, 4), Counted()
    cache = OutputCache(tmp_path, "a", 2)
    for other in (images, images.flip(-1), images.reshape(1, 3, 4, 2), images.half(), images + 1e-6):
        cache.get(other, compute)
    OutputCache(tmp_path, "b", 2).get(images, compute)
    with torch.autocast("cpu", torch.bfloat16):
        cache.get(images, compute)
    assert len(compute.batches) == 7


def test_a_damaged_row_is_computed_again(tmp_path: Path) -> None:
    images, compute = torch.randn(2, 3, 2, 2), Counted()
    found = OutputCache(tmp_path, "a", 2).get(images, compute)
    with sqlite3.connect(tmp_path / "outputs.sqlite") as file:
        file.execute("UPDATE outputs SET row = zeroblob(8) WHERE key = (SELECT key FROM outputs LIMIT 1)")
    file.close()
    cache = OutputCache(tmp_path, "a", 2)
    assert torch.equal(cache.get(images, compute), found)
    assert torch.equal(cache.get(images, compute), found)
    assert compute.batches == [2, 2]


def test_the_key_of_a_teacher_has_its_weights_classes_and_preprocessing(tmp_path: Path) -> None:
    def teacher(seed: int = 0, classes: str = "ab", spec: InputSpec = SPEC) -> Teacher:
        torch.manual_seed(seed)
        model = hexavit.create_model("cvt_nano", num_classes=3, img_size=32, overrides=["stages.*.depth=1"])
        return Teacher(LoadedModel(("a", "b", "c"), SPEC, "best", model=model), classes, spec, "it", tmp_path)

    def key(of: Teacher) -> bytes:
        assert of.cache is not None
        return of.cache.teacher

    assert key(teacher()) == key(teacher())
    other = InputSpec((32, 32), 3, (0.4,) * 3, (0.5,) * 3, "bilinear", 0.9, "center")
    assert len({key(each) for each in (teacher(), teacher(seed=1), teacher(classes="ba"), teacher(spec=other))}) == 4


def test_a_cache_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "outputs.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(RunError, match=r"outputs.sqlite: this cache of a teacher's outputs cannot be used"):
        OutputCache(tmp_path, "a", 2)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be used"):
        OutputCache(tmp_path / "file", "a", 2)


def _fill(folder: Path, kill_at: int) -> None:
    """Store sixteen batches; kill the process inside the transaction of one."""
    import os
    import signal

    class Killing(sqlite3.Connection):
        written = 0

        def executemany(self, *args):  # type: ignore[no-untyped-def]
            result = super().executemany(*args)
            Killing.written += 1
            if Killing.written == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

    connect = sqlite3.connect
    sqlite3.connect = lambda *args, **options: connect(*args, **options, factory=Killing)  # type: ignore[assignment]
    cache = OutputCache(folder, "a", 2)
    for batch in torch.arange(16 * 4 * 12.0).view(16, 4, 3, 2, 2):
        cache.get(batch, Counted())


@pytest.mark.slow
def test_a_killed_writer_leaves_whole_batches(tmp_path: Path) -> None:
    assert in_process(_fill, tmp_path, 7) == -9
    compute = Counted()
    cache = OutputCache(tmp_path, "a", 2)
    for batch in torch.arange(16 * 4 * 12.0).view(16, 4, 3, 2, 2):
        assert torch.equal(cache.get(batch, compute), Counted()(batch))
    assert compute.batches == [4] * 10
