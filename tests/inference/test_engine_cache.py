"""Runs are exported once, whole, by one of several; what cannot be exported is computed by PyTorch, with a sentence."""

import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.inference.exported import exported
from tests.using import digits_folder, trained

import hexavit
from hexavit.cli import main
from hexavit.errors import HexavitError, RunError
from hexavit.evaluation.evaluate import evaluate
from hexavit.inference import engine_cache, load_model, predict, predictor
from hexavit.inference.engine_cache import cached_export

pytestmark = pytest.mark.usefixtures("one_thread")
FILES = sorted(digits_folder().rglob("*.png"))


@pytest.fixture
def exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """An empty cache, and an exporter that copies a file; the paths that it was called with."""
    monkeypatch.setenv("HEXAVIT_CACHE", str(tmp_path / "cache"))
    called: list[Path] = []

    def export_model(_: object, path: Path, *, dynamic: tuple[str, ...], features: bool) -> None:
        called.append(path)
        time.sleep(0.05)  # for others to come
        made = exported(path.suffix, "features" if features else "logits")
        for each in made.parent.glob(f"{made.stem}.*"):
            if each.suffix in ({".xml", ".bin"} if path.suffix == ".xml" else {path.suffix}):
                shutil.copy(each, path.with_suffix(each.suffix))

    monkeypatch.setattr(hexavit, "export_model", export_model, raising=False)
    return called


def failing(monkeypatch: pytest.MonkeyPatch, calls: list[Path]) -> None:
    def export_model(_: object, path: Path, **__: object) -> None:
        calls.append(path)
        path.write_text("half a file")
        raise HexavitError("the exported file differs from PyTorch by 3.0e-01 of the largest output")

    monkeypatch.setattr(hexavit, "export_model", export_model, raising=False)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_engine_is_used_and_its_file_is_kept(engine: str, exports: list[Path]) -> None:
    torch_, first, second = (hexavit.load_predictor(trained().path, engine=each) for each in ("torch", engine, engine))
    assert (first.engine, second.engine, len(exports)) == (engine, engine, 1)
    np.testing.assert_allclose(first.logits(FILES), torch_.logits(FILES), atol=1e-4)
    (note,) = first.notes
    assert note.startswith(f"computing with {'ONNX Runtime' if engine == 'onnxruntime' else 'OpenVINO'} ")
    features = hexavit.load_predictor(trained().path, engine=engine, features=True)
    assert (features.features(FILES[:2]).shape, len(exports)) == ((2, 128), 2)


def test_auto_is_the_first_that_is_installed(exports: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert hexavit.load_predictor(trained().path).engine == "openvino"
    monkeypatch.setattr(predictor, "installed", lambda name: name == "onnxruntime")
    assert hexavit.load_predictor(trained().path).engine == "onnxruntime"
    monkeypatch.setattr(predictor, "installed", lambda name: False)
    assert hexavit.load_predictor(trained().path).engine == "torch"
    assert len(exports) == 2


def test_other_weights_classes_or_sizes_are_other_files(exports: list[Path]) -> None:
    loaded = load_model(trained().path)
    first = cached_export(loaded, "onnxruntime", features=False)
    again = load_model(trained().path)
    assert cached_export(again, "onnxruntime", features=False) == first
    with torch.no_grad():
        next(again.model.parameters())[0] += 1
    assert cached_export(again, "onnxruntime", features=False) != first
    other = type(loaded)(("a", "b", "c"), loaded.input_spec, "best", model=loaded.model)
    assert cached_export(other, "onnxruntime", features=False) != first
    assert len(exports) == 3
    third = type(loaded)(("x",) * 3, loaded.input_spec, "", model=loaded.model)
    assert cached_export(third, "openvino", features=False, make=False) is None


def test_one_of_several_exports(exports: list[Path]) -> None:
    loaded = load_model(trained().path)
    barrier = threading.Barrier(6)

    def ask(_: int) -> Path | None:
        barrier.wait()
        return cached_export(loaded, "onnxruntime", features=False)

    with ThreadPoolExecutor(6) as pool:
        paths = set(pool.map(ask, range(6)))
    assert len(exports) == len(paths) == 1
    place = paths.pop().parent
    assert sorted(each.name for each in place.iterdir()) == ["model.onnx"]
    assert [each.name for each in place.parent.iterdir() if each.is_dir()] == [place.name]  # nothing half is left


def test_a_failed_export_is_not_tried_again(
    exports: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, exports)
    for _ in range(2):
        found = hexavit.load_predictor(trained().path)
        assert found.engine == "torch"
        assert "cannot be used: the exported file differs from PyTorch by 3.0e-01" in found.notes[0]
        assert "\n" not in found.notes[0]
        assert len(found(FILES[0]).top) == 3
        with pytest.raises(HexavitError, match="differs from PyTorch"):
            hexavit.load_predictor(trained().path, engine="openvino")
    assert len(exports) == 1
    assert main(["predict", str(trained().path), str(FILES[0]), "--engine", "onnxruntime"]) == 2
    assert "error: the exported file differs from PyTorch" in capsys.readouterr().err


def test_a_missing_package_is_not_remembered_as_a_failed_export(
    exports: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as missing:
        missing.setitem(sys.modules, "onnxscript", None)
        with pytest.raises(HexavitError, match=r"^onnxscript is not installed: pip install 'hexavit\[onnx\]'$"):
            hexavit.load_predictor(trained().path, engine="onnxruntime")
    assert hexavit.load_predictor(trained().path, engine="onnxruntime").engine == "onnxruntime"
    assert len(exports) == 1


def test_a_folder_that_cannot_be_written_is_one_sentence(exports: list[Path], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    found = hexavit.load_predictor(trained().path)
    assert found.engine == "torch"
    assert "this folder cannot be written" in found.notes[0]
    assert "set HEXAVIT_CACHE" in found.notes[0]
    with pytest.raises(RunError, match="cannot be written"):
        cached_export(load_model(trained().path), "openvino", features=False)


def test_commands_export_where_it_pays(exports: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    options = {"device": "cpu", "batch_size": 4, "notify": notes.append}
    few = list(predict(trained(), FILES, **options))
    assert (exports, notes) == ([], [])
    for module in (predictor, __import__("hexavit.inference.prediction", fromlist=["predict"])):
        monkeypatch.setattr(module, "FROM_IMAGES", 10)
    many = list(predict(trained(), FILES, **options))
    assert (len(exports), len(notes)) == (1, 1)
    for one, other in zip(few, many, strict=True):
        np.testing.assert_allclose(one.logits, other.logits, atol=1e-4)
    assert len(list(predict(trained(), FILES[:1], **options))) == 1  # the file is there, and is used at once
    assert len(notes) == 2
    assert evaluate(trained(), str(digits_folder()), part="all", workers=0, notify=notes.append).count == 30
    assert (len(exports), len(notes)) == (1, 3)
    assert not evaluate(trained(), str(digits_folder()), engine="torch", workers=0, notify=notes.append).notes
    assert len(notes) == 3


def test_what_an_engine_cannot_do_is_said(exports: list[Path]) -> None:
    for call, sentence in (
        (lambda: list(predict(trained(), FILES, features=True, engine="openvino")), "classes or features, not both"),
        (lambda: hexavit.load_predictor(trained().path, engine="openvino", device="cuda"), "device 'cuda'"),
    ):
        with pytest.raises(HexavitError, match=sentence):
            call()
    assert len(list(predict(trained(), FILES[:2], features=True))) == 2
    assert exports == []


@pytest.mark.parametrize(("variables", "expected"), [
    ({"HEXAVIT_CACHE": "/a"}, "/a"),
    ({"XDG_CACHE_HOME": "/b"}, "/b/hexavit"),
    ({"HOME": "/c"}, "/c/.cache/hexavit"),
])  # fmt: skip
def test_the_folder_is_that_of_the_environment(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HEXAVIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert engine_cache.cache_folder() == Path(expected)


@pytest.mark.slow
def test_one_of_several_processes_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEXAVIT_CACHE", str(tmp_path))
    program = """
import sys, torch, hexavit
torch.set_num_threads(1)
predictor = hexavit.load_predictor(sys.argv[1])
print(predictor.engine, predictor(sys.argv[2]).top[0][0], predictor.notes[0])
"""
    call = [sys.executable, "-c", program, str(trained().path), str(FILES[0])]
    running = [subprocess.Popen(call, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = {each.communicate(timeout=1200)[0] for each in running}
    expected = hexavit.load_predictor(trained().path, engine="torch")(FILES[0]).top[0][0]
    assert len(printed) == 1
    assert printed.pop().startswith(f"openvino {expected} computing with OpenVINO ")
    (place,) = (each for each in (tmp_path / "engines").iterdir() if each.is_dir())
    assert sorted(each.name for each in place.iterdir()) == ["model.bin", "model.xml"]
