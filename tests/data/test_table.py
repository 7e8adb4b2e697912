from pathlib import Path

import pytest
from tests.using import make_folder, silent, tiny

from hexavit.data import ImageFolder, ImageTable, open_source
from hexavit.data.split import make_split
from hexavit.errors import DataError
from hexavit.training import evaluate, train


def rows_of(folder: Path, per_class: int = 5) -> list[tuple[str, str]]:
    source = ImageFolder(make_folder(folder, per_class))
    return [(name, source.classes[label]) for name, label in zip(source.names, source.labels, strict=True)]


def write(path: Path, header: str, rows: list[tuple[str, ...]]) -> Path:
    path.write_text("\n".join([header, *map(",".join, rows)]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("header", ["path,label", "filename,class", "\ufefffile,label"])
def test_a_table_gives_what_its_folder_would(tmp_path: Path, header: str) -> None:
    table = open_source(str(write(tmp_path / "images.csv", header, rows_of(tmp_path))))
    folder = ImageFolder(tmp_path)
    assert isinstance(table, ImageTable)
    assert (table.names, table.labels, table.classes, table.parts) == (folder.names, folder.labels, folder.classes, {})
    assert make_split(table, 0.2, 0) == make_split(folder, 0.2, 0)
    assert table.load(3).tobytes() == folder.load(3).tobytes()


def test_a_column_of_parts_is_the_split(tmp_path: Path) -> None:
    kinds = ("train", "train", "valid", "test", "Train")
    rows = [(*row, kinds[number % 5]) for number, row in enumerate(rows_of(tmp_path))]
    table = ImageTable(write(tmp_path / "images.csv", "path,label,split", rows))
    assert {part: len(numbers) for part, numbers in table.parts.items()} == {"train": 9, "val": 3, "test": 3}


SEVERAL = {
    "names": "path,labels,split\na.png,cat|dog,train\nb.png,,train\nc.png,dog; fox ,train\nd.png,dog,val\n",
    "columns": "path,cat,dog,fox,split\n"
    "a.png,1,1,0,train\nb.png,0,0,0,train\nc.png,no,true,1.0,train\nd.png,0,1,0,val\n",
}


@pytest.mark.parametrize("form", SEVERAL)
def test_images_may_have_several_classes_or_none(tmp_path: Path, form: str) -> None:
    (tmp_path / "a.csv").write_text(SEVERAL[form])
    table = ImageTable(tmp_path / "a.csv")
    assert table.classes == ("cat", "dog", "fox")
    assert table.label_sets == ((0, 1), (), (1, 2), (1,))
    assert table.labels == (0, -1, 2, 1)  # the rarest of each
    assert table.class_counts(table.parts["train"]) == [1, 2, 1]
    table.set_classes(("fox", "cat", "dog"))
    assert (table.label_sets, table.labels) == (((1, 2), (), (0, 2), (2,)), (1, -1, 0, 2))


def test_columns_of_classes_keep_their_order_and_parquet_may_hold_lists(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,zebra,ant\na.png,1,0\nb.png,1,1\n")
    assert ImageTable(tmp_path / "a.csv").classes == ("zebra", "ant")
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    columns = {"path": ["a.png", "b.png"], "labels": [["x", "y"], []]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    assert ImageTable(tmp_path / "a.parquet").label_sets == ((0, 1), ())


def test_images_with_several_classes_are_split_by_their_rarest(tmp_path: Path) -> None:
    rows = [(f"{number}.png", "common|rare" if number % 10 == 0 else "common") for number in range(100)]
    table = ImageTable(write(tmp_path / "a.csv", "path,labels", [*rows, ("last.png", "common|single")]))
    split = make_split(table, 0.2, 0)
    assert [table.class_counts(split[part]) for part in ("train", "val")] == [[81, 8, 1], [20, 2, 0]]


def test_train_and_evaluate_on_a_table(tmp_path: Path) -> None:
    data = str(write(tmp_path / "images.csv", "path,label", rows_of(tmp_path)))
    run = train(tiny(data, epochs=1), tmp_path / "run", console=silent()).run
    assert evaluate(run, data, device="cpu").count == 3


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "a table needs a column 'path' or 'file' or 'filename' or 'image', and has nothing"),
        ("path,colour\na.png,red\n", "a table needs a column 'label' or 'class', and has path, colour"),
        ("path,label\na.png,\nb.png,x\n", "the column 'label' is empty in row 2"),
        ("path,label\na.png\n", "row 2 has not as many values"),
        ("path,label\na.png,x,y\n", "row 2 has not as many values"),
        ("path,label\na.png,x\na.png,y\n", "the image 'a.png' is in two rows"),
        ("path,label\na.png,x\n", "at least two classes are needed, and there are 1"),
        ("path,label,split\na.png,x,train\nb.png,y,trial\n", "row 3 has the split 'trial', not train, val or test"),
        ("path,label,split\na.png,x,val\nb.png,y,val\n", "no row has the split 'train'"),
        ("path,label,split\na.png,x,train\nb.png,y,val\n", "train has no images of the class 'y'"),
        ('path,label\n"a.png,x\n', "this table cannot be read"),
        ("path,labels\na.png,x\nb.png,x\n", "at least two classes are needed, and there are 1"),
        ("path,x,y\na.png,1,0\nb.png,1,perhaps\n", "the column 'y' holds 'perhaps' in row 3"),
        ("path,x,y\na.png,1,0\nb.png,0,0.3\n", "the column 'y' holds numbers such as 0.3: regression is not supported"),
        ("path,label\na.png,1.5\nb.png,2.25\n", "the column 'label' holds numbers such as 1.5: regression is not"),
        ("path,labels,split\na.png,x,train\nb.png,x|y,val\n", "train has no images of the class 'y'"),
    ],
)
def test_an_invalid_table_raises_an_error(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(DataError) as raised:
        ImageTable(tmp_path / "a.csv")
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_text_in_another_encoding_raises_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("path,label\na.png,läufer\n".encode("latin-1"))
    with pytest.raises(DataError, match="this table cannot be read"):
        ImageTable(tmp_path / "a.csv")


def test_parquet_without_its_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r"pip install 'hexavit\[parquet\]'"):
        open_source(str(tmp_path / "a.parquet"))


def test_parquet_gives_what_csv_does(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    rows = rows_of(tmp_path)
    csv = ImageTable(write(tmp_path / "a.csv", "path,label", rows))
    columns = {"path": [path for path, _ in rows], "label": [label for _, label in rows]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    found = open_source(str(tmp_path / "a.parquet"))
    assert (found.names, found.labels, found.classes) == (csv.names, csv.labels, csv.classes)
    (tmp_path / "a.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match="this table cannot be read"):
        open_source(str(tmp_path / "a.parquet"))
