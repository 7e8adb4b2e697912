from pathlib import Path

import pytest
from PIL import Image
from tests.using import CLASSES, digits_folder, make_folder

from hexavit.data import ImageFolder, open_source
from hexavit.data.check import check_data
from hexavit.data.source import describe_unused, sorted_classes
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
    validation = {before.names[n] for n in make_split(before, 0.2, 0)["val"]}
    (folder / "zero" / "9999.png").write_bytes((folder / "zero" / "0000.png").read_bytes())
    after = ImageFolder(folder)
    assert len(validation & {after.names[n] for n in make_split(after, 0.2, 0)["val"]}) >= len(validation) - 1


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


def test_a_path_without_data_raises_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither 'digits' nor a folder"):
        open_source(str(tmp_path / "digit"))
    for name in ("a" * 300, "\x00", str(tmp_path / "\udcff")):
        with pytest.raises(DataError, match="neither 'digits' nor a folder") as raised:
            open_source(name)
        assert str(raised.value).isprintable()
    with pytest.raises(DataError, match="at least two class folders"):
        open_source(str(tmp_path))
    make_folder(tmp_path, 1)
    with pytest.raises(DataError, match="has a single image; two are needed"):
        make_split(open_source(str(tmp_path)), 0.2, 0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="this class folder holds no images"):
        open_source(str(tmp_path))


def test_contradicting_parts_raise_an_error(tmp_path: Path) -> None:
    make_folder(tmp_path, 2, ("train", "val"))
    (tmp_path / "val" / "zero").rename(tmp_path / "val" / "nought")
    with pytest.raises(DataError, match="train has no images of the class 'nought'"):
        ImageFolder(tmp_path)
    (tmp_path / "valid").mkdir()
    with pytest.raises(DataError, match="two folders name the same part: train, val, valid"):
        ImageFolder(tmp_path)


@pytest.mark.parametrize(
    "parts",
    [
        ("training", "validation", "testing"),
        ("Train", "Val", "Test"),
        ("TRAIN", "Valid", "TESTING"),
        ("train", "valid", "testing"),
    ],
)
def test_parts_are_known_by_several_names_in_any_case(tmp_path: Path, parts: tuple[str, ...]) -> None:
    source = ImageFolder(make_folder(tmp_path, 4, parts))
    assert {part: len(numbers) for part, numbers in source.parts.items()} == {"train": 12, "val": 12, "test": 12}
    assert source.classes == CLASSES
    assert source.unused == ()


def test_numbers_are_sorted_by_value(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data", 2)
    for old, new in {"zero": "9", "one": "10", "two": "11"}.items():
        (folder / old).rename(folder / new)
    source = ImageFolder(folder)
    assert source.classes == ("9", "10", "11")
    assert [source.classes[label] for label in source.labels] == [name.split("/")[0] for name in source.names]


@pytest.mark.parametrize(
    ("names", "sorted_names"),
    [
        (["b", "a", "10", "9"], ("10", "9", "a", "b")),
        (["10", "-1", "0.5", "9"], ("-1", "0.5", "9", "10")),
        (["02", "2", "1", "10"], ("1", "02", "2", "10")),
        (["1e3", "20"], ("1e3", "20")),
        (["nan", "2"], ("2", "nan")),
    ],
)
def test_classes_are_sorted_by_value_only_if_all_are_numbers(names: list[str], sorted_names: tuple[str, ...]) -> None:
    assert sorted_classes(names) == sorted_names


def test_files_that_are_not_used_are_listed(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data", 2, ("train", "test"))
    for name in ("train/one/a.heic", "train/one/b.HEIC", "train/notes.txt", "readme.md", "extra/zero/c.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "train" / "one" / ".hidden.heic").touch()
    source = ImageFolder(folder)
    assert source.unused == ("extra/zero/c.png", "readme.md", "train/notes.txt", "train/one/a.heic", "train/one/b.HEIC")
    assert describe_unused(source.unused) == "5 files: 2 .heic, 1 .png, 1 .md, 1 .txt"
    printed = str(check_data(source))
    assert "not used   5 files: 2 .heic, 1 .png, 1 .md, 1 .txt\n  extra/zero/c.png\n  readme.md" in printed
    assert check_data(source).as_dict()["unused"] == source.unused


def test_jpeg_files_of_other_endings_are_read(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data", 2)
    for ending in ("jfif", "JPE"):
        Image.new("RGB", (8, 8), (250, 10, 10)).save(folder / "one" / f"a.{ending}", format="jpeg")
    source = ImageFolder(folder)
    assert source.unused == ()
    assert source.load(source.names.index("one/a.jfif")).size == (8, 8)
    assert "one/a.JPE" in source.names


def test_a_folder_around_the_class_folders_is_named(tmp_path: Path) -> None:
    make_folder(tmp_path, 2, ("photos",))
    with pytest.raises(DataError, match=r"there are 1; name .*photos if its folders are the classes"):
        ImageFolder(tmp_path)
