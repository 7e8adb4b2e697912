"""A run's split is found again in data that was copied, moved or renamed."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.using import make_folder

from hexavit.data import Digits, ImageFolder, open_source
from hexavit.data.source import Source, Split
from hexavit.data.split import as_record, from_record, make_split, match_split
from hexavit.errors import DataError

OLD_RUN = Path(__file__).parent.parent / "compatibility" / "v0_1" / "run"


def recorded(folder: Path) -> tuple[Source, dict[str, Any]]:
    """Data with the record of a split of it, as split.json holds it."""
    source = ImageFolder(make_folder(folder, 6))
    return source, json.loads(json.dumps(as_record(source, make_split(source, 0.34, 0))))


def names(source: Source, split: Split) -> dict[str, list[str]]:
    return {part: [source.names[number] for number in numbers] for part, numbers in split.items()}


def without_checksums(record: dict[str, Any]) -> dict[str, Any]:
    """The record as version 0.1 wrote it."""
    return {name: value for name, value in record.items() if name != "checksums"}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("place", ["copy", "copy of the images/data"])
def test_a_copied_folder_has_the_same_split(tmp_path: Path, old: bool, place: str) -> None:
    source, record = recorded(tmp_path / "data")
    shutil.copytree(source.root, tmp_path / place)
    copied = ImageFolder(tmp_path / place)
    match = match_split(copied, without_checksums(record) if old else record)
    assert match is not None
    assert names(copied, match.split) == record["parts"]
    assert (match.missing, match.added, match.by_content) == ((), (), False)
    assert from_record(copied, record) == match.split


@pytest.mark.parametrize("moved", [False, True])
def test_renamed_images_are_found_by_their_content(tmp_path: Path, moved: bool) -> None:
    source, record = recorded(tmp_path / "data")
    if moved:
        source.root.rename(tmp_path / "moved")
    root = tmp_path / ("moved" if moved else "data")
    (root / "zero").rename(root / "nought")
    for number, file in enumerate(sorted((root / "one").iterdir())):
        file.rename(file.with_name(f"photo {number}.png"))
    renamed = ImageFolder(root)
    match = match_split(renamed, record)
    assert match is not None
    assert match.by_content
    assert (match.missing, match.added) == ((), ())
    contents = {part: {(tmp_path / "original" / name).name for name in of} for part, of in record["parts"].items()}
    assert {part: len(of) for part, of in match.split.items()} == {part: len(of) for part, of in contents.items()}
    original = ImageFolder(make_folder(tmp_path / "original", 6))
    for part, numbers in match.split.items():
        expected = [original.load(original.names.index(name)).tobytes() for name in record["parts"][part]]
        assert [renamed.load(number).tobytes() for number in numbers] == expected


def test_added_and_removed_images_are_distinguished(tmp_path: Path) -> None:
    source, record = recorded(tmp_path / "data")
    copy = shutil.copytree(source.root, tmp_path / "copy")
    gone = record["parts"]["train"][0]
    (copy / gone).unlink()
    Image.new("L", (8, 8), 77).save(copy / "one" / "new.png")
    new = ImageFolder(copy)
    match = match_split(new, record)
    assert match is not None
    assert match.missing == (gone,)
    assert [new.names[number] for number in match.added] == ["one/new.png"]
    assert names(new, match.split) == {**record["parts"], "train": record["parts"]["train"][1:]}
    with pytest.raises(DataError, match=f"the image '{gone}' of this run's split is no longer there"):
        from_record(new, record)


def test_a_copy_of_a_training_image_is_a_training_image(tmp_path: Path) -> None:
    source, record = recorded(tmp_path / "data")
    copy = shutil.copytree(source.root, tmp_path / "copy")
    trained = record["parts"]["train"][0]
    (copy / trained).rename(copy / "one" / "renamed.png")
    shutil.copy(copy / "one" / "renamed.png", copy / "two" / "again.png")
    new = ImageFolder(copy)
    match = match_split(new, record)
    assert match is not None
    assert {"one/renamed.png", "two/again.png"} <= set(names(new, match.split)["train"])


def test_an_image_that_was_edited_keeps_its_part(tmp_path: Path) -> None:
    source, record = recorded(tmp_path / "data")
    copy = shutil.copytree(source.root, tmp_path / "copy")
    edited = record["parts"]["val"][0]
    Image.new("L", (8, 8), 200).save(copy / edited)
    (copy / record["parts"]["train"][0]).rename(copy / "one" / "renamed.png")
    new = ImageFolder(copy)
    match = match_split(new, record)
    assert match is not None
    assert edited in names(new, match.split)["val"]


def test_other_data_with_the_same_names_is_other_data(tmp_path: Path) -> None:
    source, record = recorded(tmp_path / "data")
    for number, name in enumerate(source.names):
        (tmp_path / "other" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(tmp_path / "other" / name)
    other = ImageFolder(tmp_path / "other")
    assert match_split(other, record) is None
    with pytest.raises(DataError, match="this is not the data of the run, which was /"):
        from_record(other, record)


def test_other_data_with_other_names_is_other_data(tmp_path: Path) -> None:
    _, record = recorded(tmp_path / "data")
    other = make_folder(tmp_path / "other", 4, ("a", "train", "val"))
    shutil.rmtree(other / "a")  # the digits of the recorded data
    shutil.rmtree(other / "train")
    source = ImageFolder(other / "val")
    assert match_split(source, without_checksums(record)) is None
    assert match_split(Digits(), without_checksums(record)) is None


def test_what_was_skipped_is_not_new(tmp_path: Path) -> None:
    source = ImageFolder(make_folder(tmp_path / "data", 6))
    split = make_split(source, 0.34, 0)
    left_out = source.names[split["train"][0]]
    record = as_record(source, {**split, "train": split["train"][1:]}, {left_out: "broken"})
    match = match_split(ImageFolder(shutil.copytree(source.root, tmp_path / "copy")), record)
    assert match is not None
    assert (match.missing, match.added) == ((), ())


def test_a_run_of_version_0_1_finds_its_split() -> None:
    record = json.loads((OLD_RUN / "split.json").read_text())
    digits = Digits()
    match = match_split(digits, record)
    assert match is not None
    assert names(digits, match.split) == record["parts"]
    assert (match.missing, match.added) == ((), ())


def test_data_is_reopened_in_the_order_of_the_run(tmp_path: Path) -> None:
    source, _ = recorded(tmp_path / "data")
    again = open_source(str(source.root))
    again.set_classes(["two", "zero", "one"])
    assert again.classes == ("two", "zero", "one")
    assert [again.classes[label] for label in again.labels] == [source.classes[label] for label in source.labels]
    with pytest.raises(DataError, match=r"the run has the classes two, zero, and this data has"):
        again.set_classes(["two", "zero"])


def test_some_of_the_training_images_are_taken_by_class_and_nested() -> None:
    source = Digits()
    split = make_split(source, 0.2, 0)
    taken = [set(make_split(source, 0.2, 0, count)["train"]) for count in (10, 100, 500)]
    assert [len(each) for each in taken] == [10, 100, 500]
    assert taken[0] < taken[1] < taken[2] < set(split["train"])
    for numbers in taken:
        for label in range(10):
            share = sum(source.labels[n] == label for n in split["train"]) / len(split["train"])
            assert abs(sum(source.labels[n] == label for n in numbers) - share * len(numbers)) <= 1
    other = make_split(source, 0.2, 1, 100)
    assert set(other["train"]) != taken[1]
    assert make_split(source, 0.2, 0, None) == split


def test_validation_images_are_taken_in_the_proportion_of_the_training_images() -> None:
    source = Digits()
    split = make_split(source, 0.2, 0)  # 1,438 and 359 images
    taken = [set(make_split(source, 0.2, 0, count)["val"]) for count in (10, 100, 719)]
    assert [len(each) for each in taken] == [10, 25, 180]
    assert taken[0] < taken[1] < taken[2] < set(split["val"])
    assert {source.labels[number] for number in taken[0]} == set(range(10))
    source.parts = {**split}
    assert make_split(source, 0.2, 0, 100)["val"] == split["val"]


def test_a_fifth_validates_but_at_most_5000_images() -> None:
    """3,000 images of each class, of which 250 validate; with fewer training images, a quarter as many."""
    source = Digits()
    assert make_split(source, None, 0) == make_split(source, 0.2, 0)
    source.names, source.labels = tuple(map(str, range(60_000))), tuple(n % 20 for n in range(60_000))
    split = make_split(source, None, 0)
    assert Counter(source.labels[n] for n in split["val"]) == dict.fromkeys(range(20), 250)
    assert (len(split["train"]), len(make_split(source, 0.2, 0)["val"])) == (55_000, 12_000)
    for count, expected in ((10_000, 2_500), (50_000, 5_000)):
        some = make_split(source, None, 0, count)
        assert (len(some["train"]), len(some["val"])) == (count, expected)
        assert set(some["train"]) <= set(split["train"])
        assert set(some["val"]) <= set(split["val"])


@pytest.mark.parametrize("count", [9, 1439])
def test_a_wrong_number_of_training_images_is_an_error(count: int) -> None:
    source = Digits()
    with pytest.raises(DataError, match=r"train_images is from 10, one of each class, to 14\d\d, not"):
        make_split(source, 0.2, 0, count + 9 * (count > 9))
