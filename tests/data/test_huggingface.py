"""Data sets of Hugging Face on disk, in the forms that `datasets` and its hub write."""

import json
import pickle
import random
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.using import make_folder, silent, tiny

from hexavit.data import HuggingFaceImages, ImageFolder, open_source
from hexavit.data.check import check_data
from hexavit.data.loader import Images, make_loader
from hexavit.data.split import make_split
from hexavit.errors import DataError
from hexavit.training import evaluate, train

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
datasets = pytest.importorskip("datasets")
FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["one", "two", "zero"], "_type": "ClassLabel"}}


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection can be opened, and converted Parquet goes to a folder of the test."""

    connect = socket.socket.connect

    def local_only(sock: socket.socket, address: Any) -> None:
        assert sock.family == socket.AF_UNIX, f"a connection to {address} was opened"
        connect(sock, address)

    def no_lookup(host: str, *_: object, **__: object) -> None:
        raise AssertionError(f"the host {host} was looked up")

    monkeypatch.setattr(socket.socket, "connect", local_only)
    monkeypatch.setattr(socket, "getaddrinfo", no_lookup)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def table_of(folder: Path, features: dict[str, Any] | None = FEATURES, numbers: slice = slice(None)) -> Any:
    source = ImageFolder(folder)
    images = [{"bytes": (folder / name).read_bytes(), "path": name} for name in source.names[numbers]]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    made = pa.table({"image": pa.array(images, kind), "label": pa.array(source.labels[numbers], pa.int64())})
    return made.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})} if features else {}
    )


def save(folder: Path, table: Any) -> Path:
    """Write with `datasets` itself, in two files."""
    datasets.Dataset(table).save_to_disk(folder, num_shards=2)
    return folder


def test_saved_to_disk_it_gives_what_its_folder_would(tmp_path: Path) -> None:
    folder = ImageFolder(make_folder(tmp_path / "images"))
    packed = open_source(str(save(tmp_path / "packed", table_of(tmp_path / "images"))))
    assert isinstance(packed, HuggingFaceImages)
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


def test_train_and_evaluate_with_worker_processes(tmp_path: Path) -> None:
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


def test_no_script_of_a_data_set_is_run(tmp_path: Path) -> None:
    make_folder(tmp_path / "images")
    place = save(tmp_path / "packed", table_of(tmp_path / "images"))
    (tmp_path / "hub").mkdir()
    parquet.write_table(table_of(tmp_path / "images"), tmp_path / "hub" / "train-0.parquet")
    remote = "configs:\n- config_name: default\n  data_files: https://example.org/train.parquet\n"
    for folder in (place, tmp_path / "hub"):
        (folder / f"{folder.name}.py").write_text("raise SystemExit('run')")
        (folder / "README.md").write_text(f"---\n{remote}---\n")
        assert len(open_source(str(folder)).names) == 30


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    make_folder(tmp_path / "images")
    table = table_of(tmp_path / "images")
    values = table["image"].to_pylist()
    values[3], values[4] = {"bytes": b"nothing", "path": "a"}, {"bytes": None, "path": "/etc/passwd"}
    broken = table.set_column(0, "image", pa.array(values, table["image"].type))
    parquet.write_table(broken, tmp_path / "a.parquet")  # `save_to_disk` would copy the file into the data set
    packed = open_source(str(tmp_path / "a.parquet"))
    with pytest.raises(DataError, match=r"^all/0000003: this is not an image that can be read"):
        packed.load(3)
    with pytest.raises(DataError, match=r"^all/0000004: the data set holds no image here"):
        packed.load(4)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("state.json", b"{", "this data set cannot be read"),
        ("state.json", b"[]", "this data set cannot be read"),
        ("state.json", b"{}", "this data set cannot be read"),
        ("state.json", b'{"_indices_data_files": [1]}', "is a selection of rows; save it again"),
        ("state.json", b'{"_data_files": [{"filename": "../../gone"}]}', "this data set cannot be read .*gone"),
        ("data-00000-of-00002.arrow", b"", "this data set cannot be read"),
        ("data-00000-of-00002.arrow", b"\xff\xff\xff\xff" * 40, "this data set cannot be read"),
        ("dataset_info.json", b"[]", "this data set cannot be read"),
    ],
)
def test_damaged_files_raise_one_sentence(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    make_folder(tmp_path / "images")
    place = save(tmp_path / "packed", table_of(tmp_path / "images"))
    (place / name).write_bytes(content)
    with pytest.raises(DataError, match=sentence) as raised:
        open_source(str(place))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b'{"splits": 3}', b'{"splits": ["train", "test"]}', b"{", b"3"])
def test_a_damaged_list_of_splits_raises_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "dataset_dict.json").write_bytes(content)
    with pytest.raises(DataError, match="this data set cannot be read") as raised:
        open_source(str(tmp_path))
    assert "\n" not in str(raised.value)


def test_a_damaged_parquet_file_raises_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make_folder(tmp_path / "images")
    parquet.write_table(table_of(tmp_path / "images"), tmp_path / "train-0.parquet")
    whole = (tmp_path / "train-0.parquet").read_bytes()
    (tmp_path / "train-0.parquet").write_bytes(whole[:-20])
    with pytest.raises(DataError, match="this data set cannot be read") as raised:
        open_source(str(tmp_path))
    assert "\n" not in str(raised.value)
    assert "Failed" not in capfd.readouterr().err


def test_damaged_files_are_read_or_raise_an_error(tmp_path: Path) -> None:
    make_folder(tmp_path / "images", 3)
    place = save(tmp_path / "packed", table_of(tmp_path / "images"))
    file = place / "data-00000-of-00002.arrow"
    whole, draw = file.read_bytes(), random.Random(0)
    rejected = []
    for _ in range(300):
        corrupt = bytearray(whole)
        for _ in range(draw.randrange(1, 6)):
            corrupt[draw.randrange(len(corrupt) // 2)] = draw.randrange(256)
        file.unlink()  # what is mapped stays as it was
        file.write_bytes(corrupt)
        try:
            source = HuggingFaceImages(place)
            for number in range(len(source.names)):
                source.load(number)
        except DataError as error:
            rejected.append(str(error))
    assert len(rejected) > 50
    assert not any("\n" in sentence for sentence in rejected)


def test_several_sets_in_one_folder_are_distinguished(tmp_path: Path) -> None:
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
    parquet.write_table(table_of(tmp_path / "images"), tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "datasets", None)
    for path in (place, tmp_path / "a.parquet"):
        with pytest.raises(DataError, match=r"pip install 'hexavit\[datasets\]'"):
            open_source(str(path))


def test_missing_columns_are_named(tmp_path: Path) -> None:
    make_folder(tmp_path / "images")
    place = save(tmp_path / "packed", table_of(tmp_path / "images").drop_columns(["label"]))
    with pytest.raises(DataError, match="no column holds labels; there are image"):
        open_source(str(place))
