"""Untrusted files: values other than weights are ignored, false sizes are errors, no code is run."""

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.checkpoints.files import Trap, authors_state, rezipped, tiny, write_all

import hexavit
from hexavit.checkpoints import inspect_checkpoint
from hexavit.checkpoints.reader import read_contents
from hexavit.checkpoints.unpickler import PickleMachine
from hexavit.errors import CheckpointError


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_all(tmp_path_factory.mktemp("files"))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "old.pth", "run.pth", "old_run.pth"])
def test_every_format_gives_the_same_tensors(files: dict[str, Path], name: str) -> None:
    model, donor = tiny(), tiny()
    torch.nn.init.zeros_(model.head.fc.weight)
    hexavit.load_checkpoint(model, files[name])
    assert all(torch.equal(t, donor.state_dict()[key]) for key, t in model.state_dict().items())


@pytest.mark.parametrize("name", ["run.pth", "old_run.pth"])
def test_what_stands_beside_the_weights_is_named_and_not_made(files: dict[str, Path], name: str) -> None:
    with pytest.raises(pickle.UnpicklingError):
        torch.load(files[name], weights_only=True)
    report = hexavit.load_checkpoint(tiny(), files[name])
    assert report.dropped["args"] == "not weights: argparse.Namespace, not created"
    assert report.dropped["optimizer"] == "not weights: dict of 2"
    assert report.dropped["epoch"] == "not weights: 3"
    assert "argparse.Namespace" in report.dropped
    assert any(name.startswith("numpy") for name in report.dropped)


def test_nodes_of_yacs_are_left_aside(tmp_path: Path) -> None:
    node = pytest.importorskip("yacs.config").CfgNode({"MODEL": {"NAME": "cls_cvt"}})
    torch.save({"state_dict": authors_state(), "config": node}, tmp_path / "a.pth")
    report = hexavit.load_checkpoint(tiny(), tmp_path / "a.pth")
    assert "yacs.config.CfgNode" in report.dropped


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("place", ["beside", "bare", "instead"])
def test_a_call_in_a_file_is_never_made(tmp_path: Path, new: bool, place: str) -> None:
    mark = tmp_path / "mark"
    trap = Trap(mark)
    tree: Any = {"state_dict": authors_state(), "x": trap} if place == "beside" else authors_state() | {"x": trap}
    torch.save(trap if place == "instead" else tree, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
    if place == "instead":
        with pytest.raises(CheckpointError, match=r"there are no weights in it: it holds"):
            hexavit.load_checkpoint(tiny(), tmp_path / "a.pth")
    else:
        assert any(
            "touch" in key or "getattr" in key for key in hexavit.load_checkpoint(tiny(), tmp_path / "a.pth").dropped
        )
    assert not mark.exists()


PICKLES = {
    "os.system by GLOBAL": b"\x80\x02cos\nsystem\nU\x04trueR.",
    "by STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    "by INST": b"(S'true'\nios\nsystem\n.",
    "by OBJ": b"\x80\x02(cos\nsystem\nU\x04trueo.",
    "by NEWOBJ": b"\x80\x02cos\nsystem\nU\x04true\x85\x81.",
    "by BUILD": b"\x80\x02cos\nsystem\n}U\x0c__setstate__cos\nsystem\nsbU\x04trueb.",
    "by an extension code": b"\x80\x02\x82\x01.",
    "a huge memo": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "a huge string": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "a huge bytearray": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "a huge number": b"\x80\x02L" + b"9" * 6000 + b"L\n.",
    "no stop": b"\x80\x02N",
    "an empty stack": b"\x80\x02.",
    "a mark too few": b"\x80\x02t.",
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_hostile_pickle_makes_nothing_but_a_mark_or_a_sentence(name: str) -> None:
    machine, rejected = PickleMachine(), None
    try:
        machine.load(io.BytesIO(PICKLES[name]))
    except CheckpointError as error:
        rejected = str(error)
    assert rejected or name == "a huge memo" or "os.system" in machine.foreign
    assert "\n" not in str(rejected)


def test_tuples_that_would_take_for_ever_to_hash_are_no_keys() -> None:
    """Nested pairs of one another: hashing them visits 2^60."""
    body = b"\x80\x02}K\x01K\x01\x86" + b"2\x86" * 60 + b"K\x01s."
    assert PickleMachine().load(io.BytesIO(body)) == {}


def claims(numel: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """A pickle of {'norm.weight': a tensor} with these claims, written by hand."""

    storage = object()

    class Writer(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", numel) if obj is storage else None

    class Tensor:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, (storage, 0, shape, stride, False, {})

    out = io.BytesIO()
    Writer(out, 2).dump({"norm.weight": Tensor()})
    return out.getvalue()


@pytest.mark.parametrize(
    ("numel", "shape", "stride", "sentence"),
    [
        (4, (10**6, 10**6), (0, 0), "claims 1000000 x 1000000 numbers of a storage of 4"),
        (10**12, (4,), (1,), "claims 4000000000000 bytes, and the file has 16"),
        (4, (4,), (5,), "of a storage of 4"),
        (4, (-4,), (1,), "whole numbers"),
        (4, (1,) * 99, (1,) * 99, "short tuple"),
        (3, (3,), (1,), "claims 12 bytes, and the file has 16"),
    ],
)
def test_claims_are_held_against_the_file(
    tmp_path: Path, numel: int, shape: tuple[int, ...], stride: tuple[int, ...], sentence: str
) -> None:
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", claims(numel, shape, stride))
        archive.writestr("a/data/0", b"\0" * 16)
    with pytest.raises(CheckpointError, match=sentence):
        hexavit.load_checkpoint(tiny(), path)


def test_archives_that_unpack_to_more_are_rejected(files: dict[str, Path], tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.pth"
    bomb.write_bytes(rezipped(files["w.pth"], lambda name, data: data, zipfile.ZIP_DEFLATED))
    with pytest.raises(CheckpointError, match="compressed, which PyTorch's files never are"):
        hexavit.load_checkpoint(tiny(), bomb)
    npz = tmp_path / "bomb.npz"
    np.savez_compressed(npz, **{"embedding/kernel": np.zeros((20_000, 1_000), np.float32)})
    with pytest.raises(CheckpointError, match="far more bytes"):
        hexavit.load_checkpoint(tiny(), npz)


@pytest.mark.parametrize(
    "array", [np.array([{}], dtype=object), np.array(["x"]), np.zeros(2, dtype="f4,f4"), np.zeros(2, complex)]
)
def test_arrays_that_are_no_plain_numbers_are_rejected(tmp_path: Path, array: Any) -> None:
    np.savez(tmp_path / "a.npz", cls=array)
    with pytest.raises(CheckpointError, match="weights are plain numbers"):
        hexavit.load_checkpoint(tiny(), tmp_path / "a.npz")


def test_an_array_that_claims_more_than_it_has_is_rejected(files: dict[str, Path], tmp_path: Path) -> None:
    def lie(name: str, data: bytes) -> bytes:
        return data.replace(b"'shape': (3,)", b"'shape': (9,)")

    (tmp_path / "a.npz").write_bytes(rezipped(files["w.npz"], lie))
    with pytest.raises(CheckpointError, match=r"claims the shape \(9,\)"):
        hexavit.load_checkpoint(tiny(), tmp_path / "a.npz")


def test_a_false_safetensors_header_is_rejected(tmp_path: Path) -> None:
    for header in (
        {"norm.weight": {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 4]}},
        {"norm.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 10**15]}},
        {"norm.weight": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}},
    ):
        text = json.dumps(header).encode()
        (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 4)
        with pytest.raises(CheckpointError, match=r"damaged|plain numbers"):
            inspect_checkpoint(tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{" + b" " * 100)
    with pytest.raises(CheckpointError, match="damaged"):
        inspect_checkpoint(tmp_path / "a.safetensors")


def test_an_index_stays_in_its_folder(tmp_path: Path) -> None:
    for name, sentence in (("../a.safetensors", "outside the folder"), ("b.safetensors", "is not there")):
        index = {"weight_map": {"norm.weight": name}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(CheckpointError, match=sentence):
            inspect_checkpoint(tmp_path)


def test_whole_models_programs_and_other_files_are_distinguished(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pth")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"a": 1}))
    for name, sentence in {
        "whole.pth": r"no weights in it: it holds torch\.nn\.modules\.linear\.Linear",
        "text.pth": "none of safetensors",
        "empty.pth": "none of safetensors",
        "plain.pkl": r"torch\.save did not write",
        "absent.pth": "cannot be read: No such file",
    }.items():
        with pytest.raises(CheckpointError, match=sentence):
            hexavit.load_checkpoint(tiny(), tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"folder with none of model\.safetensors"):
        hexavit.load_checkpoint(tiny(), tmp_path / "empty")


def test_names_cannot_break_a_sentence_or_a_terminal(tmp_path: Path) -> None:
    torch.save({"norm.weight\n\x1b[2J": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="no name of a tensor") as raised:
        hexavit.load_checkpoint(tiny(), tmp_path / "a.pth")
    assert str(raised.value).isprintable()
    machine = PickleMachine()
    machine.load(io.BytesIO(b"\x80\x04\x8c\x03a\nb\x8c\x03\x1b[J\x93."))
    assert list(machine.foreign) == ["a\\nb.\\x1b[J"]


def test_a_file_of_more_tensors_than_any_model_is_rejected_quickly() -> None:
    with pytest.raises(CheckpointError, match="20,001 tensors"):
        hexavit.load_checkpoint(tiny(), {f"norm.{i}": torch.zeros(0) for i in range(20_001)})


def test_shared_storages_stay_shared_and_views_are_read(tmp_path: Path) -> None:
    base = torch.arange(12.0)
    state = {"norm.weight": base[2:8:2], "norm.bias": base.view(3, 4).t()[1], "head.bias": torch.empty(0)}
    for new in (True, False):
        torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
        tree = read_contents(tmp_path / "a.pth").tree
        assert all(torch.equal(tree[key].read(), t) for key, t in state.items())
