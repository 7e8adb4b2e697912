"""Files, folders, patterns and lists name images, without being held."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hexavit.errors import DataError
from hexavit.images.listing import checked, find_images, iter_images, read_list


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a.jpg", "b.PNG", "notes.txt", "sub/c.webp", "sub/deep/d.jpg", "empty/.hidden.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (["*.jpg"], ["a.jpg"]),
        (["*"], ["a.jpg", "b.PNG", "sub/c.webp", "sub/deep/d.jpg"]),
        (["**/*.jpg"], ["a.jpg", "sub/deep/d.jpg"]),
        (["**"], ["a.jpg", "b.PNG", "sub/c.webp", "sub/deep/d.jpg"]),
        (["[ab].*"], ["a.jpg", "b.PNG"]),
        (["sub", "a.jpg", "notes.txt"], ["sub/c.webp", "sub/deep/d.jpg", "a.jpg", "notes.txt"]),
    ],
)
def test_what_is_meant(photos: Path, asked: list[str], names: list[str]) -> None:
    assert [path.as_posix() for path in find_images(asked)] == names


def test_a_file_with_the_name_of_a_pattern_is_itself(photos: Path) -> None:
    Path("[ab].jpg").touch()
    assert find_images(["[ab].jpg"]) == [Path("[ab].jpg")]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("https://example.org/a.jpg", "https://example.org/a.jpg: nothing is fetched; download it and name the file"),
        ("FILE:/a.jpg", "nothing is fetched"),
        ("s3://bucket/*.jpg", "nothing is fetched"),
        ("*.gif", "*.gif: this pattern matches no image"),
        ("*.txt", "this pattern matches no image"),
        ("empty", "empty: this folder holds no image (.bmp, .gif"),
        ("nowhere.jpg", "nowhere.jpg: there is no such file or folder"),
        ("\x00.jpg", "there is no such file or folder"),
    ],
)
def test_an_invalid_path_raises_an_error_before_any_image_is_read(photos: Path, asked: str, sentence: str) -> None:
    with pytest.raises(DataError) as raised:
        checked(["a.jpg", asked])
    assert sentence in str(raised.value)


def test_other_images_are_read_when_errors_are_collected(photos: Path) -> None:
    expected: list[DataError] = []
    found = list(iter_images(["empty", "http://a/b.jpg", "gone.jpg", "a.jpg", "*.gif"], expected.append))
    assert found == [Path("gone.jpg"), Path("a.jpg")]  # a file that is gone is named when it is read
    assert [str(each).split(":")[0] for each in expected] == ["empty", "http", "*.gif"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may list any folder")
def test_a_folder_that_cannot_be_listed_is_named(photos: Path) -> None:
    (photos / "sub").chmod(0)
    expected: list[DataError] = []
    assert list(iter_images(["sub", "a.jpg"], expected.append)) == [Path("a.jpg")]
    (photos / "sub").chmod(0o755)
    assert "cannot be listed" in str(expected[0])


def test_no_more_is_taken_than_is_requested() -> None:
    taken = []

    def endless() -> Iterator[str]:
        number = 0
        while True:
            taken.append(number)
            yield f"{number}.jpg"
            number += 1

    found = iter_images(endless())
    assert [next(found), next(found)] == [Path("0.jpg"), Path("1.jpg")]
    assert len(taken) == 2


@pytest.mark.parametrize(
    ("content", "by_null", "paths"),
    [
        (b"a.jpg\nb c.jpg\r\n\n\xff.jpg", None, ["a.jpg", "b c.jpg", "\udcff.jpg"]),
        (b"a\nb.jpg\0c.jpg\0", None, ["a\nb.jpg", "c.jpg"]),
        (b"a.jpg\0", True, ["a.jpg"]),
        (b"one.jpg", True, ["one.jpg"]),
        (b"", None, []),
    ],
)
def test_lists(content: bytes, by_null: bool | None, paths: list[str]) -> None:
    assert list(read_list(io.BytesIO(content), by_null=by_null)) == paths


def test_a_long_list_is_cut_nowhere() -> None:
    names = [f"{number}-{'x' * (number % 90)}.jpg" for number in range(5000)]
    assert list(read_list(io.BytesIO("\n".join(names).encode()))) == names
