"""A `.pt2` file that holds code or pickles is an error before anything in it runs."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.inference.exported import exported

from hexavit.errors import CheckpointError
from hexavit.inference.exported_program import open_program

pytestmark = pytest.mark.usefixtures("one_thread")
RAN: list[str] = []


def ran(name: str) -> dict[str, str]:
    """What a hostile file would call."""
    RAN.append(name)
    return {}


class Hostile:
    """An object that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return ran, ("pickle",)


def changed(path: Path, **changes: Callable[[bytes], bytes] | bytes) -> Path:
    """A copy of the digits' `.pt2` in which entries, named by their ends, are other ones; an unknown end is added."""
    with zipfile.ZipFile(exported(".pt2")) as old, zipfile.ZipFile(path, "w") as new:
        names = old.namelist()
        for name in names:
            content = old.read(name)
            for end, change in changes.items():
                if name.endswith(end):
                    content = change(content) if callable(change) else change
            new.writestr(name, content)
        for end, change in changes.items():
            if not any(name.endswith(end) for name in names):
                assert isinstance(change, bytes)
                new.writestr(f"{names[0].split('/')[0]}/{end}", change)
    return path


def edit(change: Callable[[dict], None]) -> Callable[[bytes], bytes]:
    """A change of the graph."""

    def edited(content: bytes) -> bytes:
        graph = json.loads(content)
        change(graph)
        return json.dumps(graph).encode()

    return edited


def saved(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


CODE = "__import__('tests.inference.test_exported_program').inference.test_exported_program.ran('text')"
GRAPHS = {
    "guard": lambda graph: graph["guards_code"].append(CODE),
    "size": lambda graph: graph["graph_module"]["graph"]["sym_int_values"].update(
        {"sym": {"as_expr": {"expr_str": CODE, "hint": None}}}
    ),
    "name of a function": lambda graph: graph["graph_module"]["graph"]["nodes"][0].update(target="torch.os.system"),
    "private operator": lambda graph: graph["graph_module"]["graph"]["nodes"][0].update(
        target="_operator.methodcaller"
    ),
    "name of an argument": lambda graph: graph["graph_module"]["module_call_graph"][0]["signature"].update(
        forward_arg_names=[f"image={CODE}"]
    ),
    "name of a keyword": lambda graph: graph["graph_module"]["module_call_graph"][0]["signature"].update(
        in_spec=json.dumps([1, {"type": "builtins.dict", "context": json.dumps([CODE]), "children_spec": []}])
    ),
    "name of a node": lambda graph: graph["graph_module"]["graph"]["inputs"][0].update(as_tensor={"name": f"x={CODE}"}),
    "key": lambda graph: graph["graph_module"]["graph"]["tensor_values"].update({CODE: None}),
}


def test_the_file_itself_is_opened() -> None:
    program = open_program(exported(".pt2"))
    assert program.shape == (None, 3, 32, 32)
    assert program.module(torch.zeros(3, 3, 32, 32)).shape == (3, 3)


@pytest.mark.parametrize("name", GRAPHS)
def test_code_in_the_graph_is_not_run(name: str, tmp_path: Path) -> None:
    path = changed(tmp_path / "m.pt2", **{"models/model.json": edit(GRAPHS[name])})
    with pytest.raises(CheckpointError, match=r"m\.pt2: its graph (holds|has a key) .*"):
        open_program(path)
    assert RAN == []


def test_pickles_are_not_loaded(tmp_path: Path) -> None:
    def pickled(content: bytes) -> bytes:
        config = json.loads(content)
        next(iter(config["config"].values()))["use_pickle"] = True
        return json.dumps(config).encode()

    hostile = saved((Hostile(),))
    for changes, sentence in (
        ({"sample_inputs/model.pt": hostile}, "its example inputs are not tensors"),
        ({"model_weights_config.json": pickled, "weights/weight_0": hostile}, "is pickled"),
        ({"data/weights/model.pt": hostile}, "holds 'data/weights/model.pt'"),
        ({"data/constants/opaque_obj_0": pickle.dumps(Hostile())}, "holds 'data/constants/opaque_obj_0'"),
        ({"data/aotinductor/model/model.so": b"\x7fELF"}, "this file holds compiled code"),
        ({"serialized_exported_program.json": b"{}"}, "which is not part of an exported program"),
    ):
        path = changed(tmp_path / "m.pt2", **changes)
        with pytest.raises(CheckpointError) as raised:
            open_program(path)
        assert sentence in str(raised.value)
        assert RAN == []


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    content = exported(".pt2").read_bytes()
    for number, damaged in enumerate((b"", content[:1000], b"PK\x03\x04" + bytes(200), b"\x80\x04" + content[2:])):
        (tmp_path / f"{number}.pt2").write_bytes(damaged)
        with pytest.raises(CheckpointError) as raised:
            open_program(tmp_path / f"{number}.pt2")
        assert "\n" not in str(raised.value)
