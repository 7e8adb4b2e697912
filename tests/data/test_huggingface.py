"""Hugging Face's data sets on disk, written here as `datasets` writes them, read without it."""

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.using import make_folder, silent, tiny

from hexavit.data import ImageFolder, PackedImages, open_source
from hexavit.data.check import check_data
from hexavit.data.loader import Images, make_loader
from hexavit.data.split import make_split
from hexavit.errors import DataError
from hexavit.training import evaluate, train

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["one", "two", "zero"], "_type": "ClassLabel"}}


def table_of(folder: Path, features: dict[str, Any] | None = FEATURES, numbers: slice = slice(None)) -> Any:
    source = ImageFolder(folder)
    images = [{"bytes": (folder / name).read_bytes(), "path": name} for name in source.names[numbers]]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    made = pa.table({"image": pa.array(images, kind), "label": pa.array(source.labels[numbers], pa.int64())})
    return made.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})} if features else {}
    )


def save(folder: Path, table: Any, rows: int = 7) -> Path:
    """As `Dataset.save_to_disk` does, in two files."""
    folder.mkdir(parents=True)
    half, files = table.num_rows // 2, []
    for number, part in enumerate((table.slice(0, half), table.slice(half))):
        files.append({"filename": f"data-{number:05d}-of-00002.arrow"})
        with pa.OSFile(str(folder / files[-1]["filename"]), "wb") as file, pa.ipc.new_stream(file, part.schema) as out:
            out.write_table(part, max_chunksize=rows)
    (folder / "state.json").write_text(json.dumps({"_data_files": files, "_fingerprint": "0", "_split": None}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))
    return folder


def test_saved_to_disk_it_gives_what_its_folder_would(tmp_path: Path) -> None:
    folder = ImageFolder(make_folder(tmp_path / "images"))
    packed = open_source(str(save(tmp_path / "packed", table_of(tmp_path / "images"))))
    assert isinstance(packed, PackedImages)
    assert (packed.classes, packed.labels, packed.parts) == (folder.classes, folder.labels, {})
    for number in (0, 6, 7, 14, 15, 22, 29):
        assert packed.load(number).tobytes() == folder.load(number).tobytes()
    assert len(make_split(packed, 0.2, 0)["val"]) == 6
    assert check_data(packed).broken == ()


def test_splits_are_the_parts(tmp_path: Path) -> None:
    make_folder(tmp_path / "images")
    place = tmp_path / "packed"
    for name, rows in {"train": slice(None), "validation": slice(0, 30, 3), "extra": slice(0, 3)}.items():
        save(place / name, table_of(tmp_path / "images", numbers=rows))
    (place / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation", "extra"]}))
    packed = open_source(str(place))
    assert {part: len(numbers) for part, numbers in packed.parts.items()} == {"train": 30, "val": 10}


@pytest.mark.parametrize(
    "layout", ["{part}-00000-of-00001-abc.parquet", "data/{part}-0.parquet", "default/{part}/0.parquet"]
)
def test_parquet_as_the_hub_keeps_it(tmp_path: Path, layout: str) -> None:
    folder = ImageFolder(make_folder(tmp_path / "images"))
    for part, rows in {"train": slice(None), "test": slice(0, 30, 2)}.items():
        place = tmp_path / "hub" / layout.format(part=part)
        place.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table_of(tmp_path / "images", numbers=rows), place, row_group_size=4)
    packed = open_source(str(tmp_path / "hub"))
    assert {part: len(numbers) for part, numbers in packed.parts.items()} == {"test": 15, "train": 30}
    assert packed.classes == folder.classes
    train_part = packed.parts["train"]
    for number in (29, 0, 17, 3, 4, 28):
        assert packed.load(train_part[number]).tobytes() == folder.load(number).tobytes()


@pytest.mark.parametrize("metadata", [True, False])
def test_one_parquet_file_with_images_inside(tmp_path: Path, metadata: bool) -> None:
    make_folder(tmp_path / "images")
    parquet.write_table(table_of(tmp_path / "images", FEATURES if metadata else None), tmp_path / "a.parquet")
    packed = open_source(str(tmp_path / "a.parquet"))
    assert packed.classes == (("one", "two", "zero") if metadata else ("0", "1", "2"))


def test_it_is_trained_on_and_judged_in_processes(tmp_path: Path) -> None:
    make_folder(tmp_path / "images")
    data = str(save(tmp_path / "packed", table_of(tmp_path / "images")))
    run = train(tiny(data, epochs=1), tmp_path / "run", console=silent()).run
    assert evaluate(run, data, device="cpu").count == 6
    source = pickle.loads(pickle.dumps(open_source(data)))  # as a worker that was spawned gets it
    assert len(pickle.dumps(source)) < 20_000
    images = Images(source, range(30), run.input_spec().transform(), 0)
    assert sum(len(labels) for _, labels in make_loader(images, batch_size=8, workers=2, training=False)) == 30


def test_labels_may_be_text_or_missing(tmp_path: Path) -> None:
    make_folder(tmp_path / "images")
    table = table_of(tmp_path / "images", None)
    words = pa.array([["b", "a", "c"][label] for label in table["label"].to_pylist()])
    parquet.write_table(table.set_column(1, "label", words), tmp_path / "a.parquet")
    assert open_source(str(tmp_path / "a.parquet")).classes == ("a", "b", "c")
    (tmp_path / "hub").mkdir()
    parquet.write_table(table, tmp_path / "hub" / "train-0.parquet")
    without = table.set_column(1, "label", pa.array([-1] * 30, pa.int64()))
    parquet.write_table(without, tmp_path / "hub" / "test-0.parquet")
    assert len(open_source(str(tmp_path / "hub")).names) == 30


def test_nothing_that_comes_with_it_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "images")
    place = save(tmp_path / "packed", table_of(tmp_path / "images"))
    (place / "packed.py").write_text("raise SystemExit('run')")
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert len(open_source(str(place)).names) == 30


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    make_folder(tmp_path / "images")
    table = table_of(tmp_path / "images")
    values = table["image"].to_pylist()
    values[3], values[4] = {"bytes": b"nothing", "path": "a"}, {"bytes": None, "path": "/etc/passwd"}
    packed = open_source(
        str(save(tmp_path / "packed", table.set_column(0, "image", pa.array(values, table["image"].type))))
    )
    with pytest.raises(DataError, match=r"^all/0000003: this is not an image that can be read"):
        packed.load(3)
    with pytest.raises(DataError, match=r"^all/0000004: the image is not in the file"):
        packed.load(4)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("state.json", b"{", r"state\.json: this file cannot be read"),
        ("state.json", b"[]", r"state\.json: this file is not what `save_to_disk` writes"),
        ("state.json", b"{}", "names no files"),
        ("state.json", b'{"_indices_data_files": [1]}', "is a choice of rows of another"),
        ("state.json", b'{"_data_files": [{"filename": "../../gone"}]}', "names no files, or some that are missing"),
        ("data-00000-of-00002.arrow", b"", "this file cannot be read"),
        ("data-00000-of-00002.arrow", b"\xff\xff\xff\xff" * 40, "this file cannot be read"),
        ("dataset_dict.json", b'{"splits": 3}', "does not name the splits"),
    ],
)
def test_what_is_damaged_is_refused(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    make_folder(tmp_path / "images")
    place = save(tmp_path / "packed", table_of(tmp_path / "images"))
    (place / name).write_bytes(content)
    with pytest.raises(DataError, match=sentence) as refusal:
        open_source(str(place))
    assert "\n" not in str(refusal.value)


def test_bent_files_are_read_or_refused(tmp_path: Path) -> None:
    import random

    make_folder(tmp_path / "images", 3)
    place = save(tmp_path / "packed", table_of(tmp_path / "images"))
    file = place / "data-00000-of-00002.arrow"
    whole, draw = file.read_bytes(), random.Random(0)
    refused = []
    for _ in range(300):
        bent = bytearray(whole)
        for _ in range(draw.randrange(1, 6)):
            bent[draw.randrange(len(bent) // 2)] = draw.randrange(256)
        file.unlink()  # what is mapped stays as it was
        file.write_bytes(bent)
        try:
            source = PackedImages(place)
            for number in range(len(source.names)):
                source.load(number)
        except DataError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert not any("\n" in sentence for sentence in refused)


def test_several_sets_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    make_folder(tmp_path / "images")
    for name in ("fine", "coarse"):
        (tmp_path / "hub" / name).mkdir(parents=True)
        parquet.write_table(table_of(tmp_path / "images"), tmp_path / "hub" / name / "train-0.parquet")
    with pytest.raises(DataError, match="holds several data sets; name one of coarse, fine"):
        open_source(str(tmp_path / "hub"))
    assert len(open_source(str(tmp_path / "hub" / "fine")).names) == 30


def test_without_its_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "images")
    place = save(tmp_path / "packed", table_of(tmp_path / "images"))
    monkeypatch.setitem(sys.modules, "pyarrow.ipc", None)
    with pytest.raises(DataError, match=r"pip install 'hexavit\[parquet\]'"):
        open_source(str(place))


def test_columns_that_are_missing_are_told(tmp_path: Path) -> None:
    make_folder(tmp_path / "images")
    place = save(tmp_path / "packed", table_of(tmp_path / "images").drop_columns(["label"]))
    with pytest.raises(DataError, match="no column holds labels; there are image"):
        open_source(str(place))
