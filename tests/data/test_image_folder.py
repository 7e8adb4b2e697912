from pathlib import Path

import pytest
from tests.using import CLASSES, digits_folder, make_folder

from hexavit.data import ImageFolder, open_source
from hexavit.data.split import as_record, from_record, make_split
from hexavit.errors import DataError


def test_class_folders_are_read() -> None:
    source = open_source(str(digits_folder()))
    assert source.classes == CLASSES
    assert len(source.names) == 30
    assert source.labels[source.names.index("zero/0000.png")] == 2
    assert source.load(0).size == (8, 8)


def test_a_few_images_more_move_few_others(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "few", per_class=20)
    before = ImageFolder(folder)
    held_out = {before.names[n] for n in make_split(before, 0.2, 0)["val"]}
    (folder / "zero" / "9999.png").write_bytes((folder / "zero" / "0000.png").read_bytes())
    after = ImageFolder(folder)
    assert len(held_out & {after.names[n] for n in make_split(after, 0.2, 0)["val"]}) >= len(held_out) - 1


def test_the_split_seed_chooses_the_split() -> None:
    source = ImageFolder(digits_folder())
    assert make_split(source, 0.2, 0) == make_split(source, 0.2, 0) != make_split(source, 0.2, 1)


def test_the_folders_own_parts_are_kept(tmp_path: Path) -> None:
    source = ImageFolder(make_folder(tmp_path, 4, ("train", "validation", "test")))
    split = make_split(source, 0.5, 0)
    assert {part: len(numbers) for part, numbers in split.items()} == {"train": 12, "val": 12, "test": 12}
    assert all(source.names[n].startswith("validation/") for n in split["val"])


def test_without_val_it_is_taken_from_train_and_test_is_left_alone(tmp_path: Path) -> None:
    source = ImageFolder(make_folder(tmp_path, 4, ("train", "test")))
    split = make_split(source, 0.25, 0)
    assert {part: len(numbers) for part, numbers in split.items()} == {"train": 9, "val": 3, "test": 12}
    assert all(source.names[n].startswith("test/") for n in split["test"])


def test_a_record_gives_the_split_again_and_misses_what_is_gone(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data", 4)
    source = ImageFolder(folder)
    split = make_split(source, 0.25, 0)
    record = as_record(source, split)
    assert from_record(source, record) == split
    (folder / "zero" / "0000.png").unlink()
    with pytest.raises(DataError, match=r"the image 'zero/0000\.png' of this run's split is no longer there"):
        from_record(ImageFolder(folder), record)


def test_what_is_no_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither 'digits' nor a folder"):
        open_source(str(tmp_path / "digit"))
    for name in ("a" * 300, "\x00", str(tmp_path / "\udcff")):
        with pytest.raises(DataError, match="neither 'digits' nor a folder") as refusal:
            open_source(name)
        assert str(refusal.value).isprintable()
    with pytest.raises(DataError, match="at least two class folders"):
        open_source(str(tmp_path))
    make_folder(tmp_path, 1)
    with pytest.raises(DataError, match="has a single image; two are needed"):
        make_split(open_source(str(tmp_path)), 0.2, 0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="this class folder holds no images"):
        open_source(str(tmp_path))


def test_parts_that_contradict_are_refused(tmp_path: Path) -> None:
    make_folder(tmp_path, 2, ("train", "val"))
    (tmp_path / "val" / "zero").rename(tmp_path / "val" / "nought")
    with pytest.raises(DataError, match="train has no images of the class 'nought'"):
        ImageFolder(tmp_path)
    (tmp_path / "valid").mkdir()
    with pytest.raises(DataError, match="two folders stand for one part: train, val, valid"):
        ImageFolder(tmp_path)
