import json
from pathlib import Path

import pytest
from tests.using import make_folder, silent, tiny

from hexavit.data import Digits, ImageFolder
from hexavit.data.bad_images import only_readable
from hexavit.data.split import make_split
from hexavit.errors import DataError, RunError
from hexavit.training import train


def harmed(path: Path) -> tuple[Path, list[str]]:
    """Class folders of which one image a class is cut off, and the names of these."""
    data = make_folder(path / "data", 6)
    broken = [sorted(folder.iterdir())[2] for folder in sorted(data.iterdir())]
    for file in broken:
        file.write_bytes(file.read_bytes()[:60])
    return data, [file.relative_to(data).as_posix() for file in broken]


def test_skip_leaves_out_only_broken_images(tmp_path: Path) -> None:
    data, broken = harmed(tmp_path)
    source = ImageFolder(data)
    split = make_split(source, 0.5, 0)
    left, skipped = only_readable(source, split, "skip")
    assert list(skipped) == broken
    bad = {source.names.index(name) for name in broken}
    assert left == {part: tuple(n for n in numbers if n not in bad) for part, numbers in split.items()}


def test_error_counts_them_before_anything_is_made(tmp_path: Path) -> None:
    data, broken = harmed(tmp_path)
    with pytest.raises(DataError, match="; of 18 images 3 cannot be read: --on-bad-image skip leaves") as raised:
        train(tiny(data), tmp_path / "run", console=silent())
    assert str(raised.value).startswith(str(data / broken[0]))
    assert not (tmp_path / "run").exists()


def test_what_was_skipped_stays_with_the_run(tmp_path: Path) -> None:
    data, broken = harmed(tmp_path)
    run = train(tiny(data, on_bad_image="skip", epochs=1), tmp_path / "run", console=silent()).run
    record = run.split_record()
    assert list(record["skipped"]) == broken
    assert all("not an image that can be read" in reason for reason in record["skipped"].values())
    assert not {name for part in record["parts"].values() for name in part} & set(broken)
    metrics = json.loads(run.metrics.read_text())
    assert metrics["train_images"] + metrics["held_out_images"] == 15


def test_a_class_without_readable_images_raises_an_error(tmp_path: Path) -> None:
    data = make_folder(tmp_path, 4, ("train", "val"))
    for file in (data / "train" / "two").iterdir():
        file.write_bytes(b"nothing")
    source = ImageFolder(data)
    with pytest.raises(DataError, match="no training image of the class 'two' can be read"):
        only_readable(source, make_split(source, 0.5, 0), "skip")
    for file in (data / "val").rglob("*.png"):
        file.write_bytes(b"nothing")
    with pytest.raises(DataError, match="no image of the part 'val' can be read"):
        only_readable(source, make_split(source, 0.5, 0), "skip")


def test_an_existing_run_folder_raises_an_error_before_images_are_read(tmp_path: Path) -> None:
    data, _ = harmed(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").touch()
    with pytest.raises(RunError, match="holds other files than those of a run"):
        train(tiny(data), tmp_path / "run", console=silent())


def test_images_in_memory_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = Digits()
    monkeypatch.setattr(digits, "load", None)
    split = make_split(digits, 0.2, 0)
    assert only_readable(digits, split, "error") == (split, {})
