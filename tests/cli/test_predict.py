"""`hexavit predict`: what it takes, what it writes, and what it does about images that are broken."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.inference.exported import exported
from tests.using import digits_folder, trained

from hexavit.cli import main

pytestmark = pytest.mark.usefixtures("one_thread")


def ask(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> tuple[str, str]:
    assert main(["predict", str(trained().path), *map(str, arguments), "--device", "cpu"]) == status
    printed = capsys.readouterr()
    return printed.out, printed.err


def feed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def names(printed: str) -> list[str]:
    return [json.loads(line)["image"] for line in printed.splitlines()]


def test_a_pattern_in_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    printed, _ = ask(capsys, f"{digits_folder()}/*/*0.png", "--json")
    assert names(printed) == sorted(map(str, digits_folder().glob("*/*0.png")))


@pytest.mark.parametrize(("part", "options"), [("\n", []), ("\0", []), ("\0", ["-0"]), ("\0", ["--null"])])
def test_a_list_on_the_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, part: str, options: list[str]
) -> None:
    paths = sorted(map(str, digits_folder().rglob("*.png")))
    feed(monkeypatch, part.join(paths[1:]).encode())
    printed, _ = ask(capsys, paths[0], "-", "--json", "--batch-size", 4, *options)
    assert names(printed) == paths


def test_the_three_formats_agree(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    zeros = digits_folder() / "zero"
    table, _ = ask(capsys, zeros, "--top", 2)
    lines, _ = ask(capsys, zeros, "--top", 2, "--format", "jsonl")
    assert ask(capsys, zeros, "--top", 2, "--out", tmp_path / "a.csv") == ("", "")
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(table.splitlines()) - 1 == 10
    for row, line, text in zip(rows, lines.splitlines(), table.splitlines()[1:], strict=True):
        read = json.loads(line)
        assert read["image"] == row["image"] == text.split()[0]
        assert [each["class"] for each in read["top"]] == [row["class_1"], row["class_2"]] == text.split()[1::2]
        assert float(row["probability_1"]) == read["top"][0]["probability"]


def test_broken_images_are_named_and_the_others_go_on(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    good = sorted(digits_folder().rglob("*.png"))[:3]
    for number, path in enumerate(good):
        (tmp_path / f"{number}.png").write_bytes(path.read_bytes())
    (tmp_path / "1a.png").write_bytes(good[0].read_bytes()[:50])
    (tmp_path / "1b.png").touch()
    printed, remarks = ask(capsys, tmp_path, "--json", "--out", tmp_path / "out.jsonl", status=1)
    assert printed == ""
    assert [Path(name).stem for name in names((tmp_path / "out.jsonl").read_text())] == ["0", "1", "2"]
    assert remarks.count("\n") == 3
    assert f"error: {tmp_path / '1b.png'}: this file is empty\n" in remarks
    assert remarks.endswith("error: 2 of 5 images could not be read; the others are done\n")


def test_nothing_but_broken_images(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    printed, remarks = ask(capsys, tmp_path / "a.png", status=1)
    assert (printed, remarks.splitlines()[-1]) == ("", "error: no image could be read")


def test_a_list_may_name_what_is_not_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    good = next(digits_folder().rglob("*.png"))
    feed(monkeypatch, f"gone.png\nhttp://a/b.png\n{good}\n".encode())
    printed, remarks = ask(capsys, "-", "--json", status=1)
    assert names(printed) == [str(good)]
    assert "gone.png: there is no such image file" in remarks
    assert "http://a/b.png: nothing is fetched" in remarks


def test_an_empty_list_is_an_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"")
    assert ask(capsys, "-", status=2)[1] == "error: the list on standard input names no image\n"


def test_features_stand_beside_their_paths(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    printed, _ = ask(capsys, digits_folder(), "--json", "--features", tmp_path / "f.npy")
    assert np.load(tmp_path / "f.npy", allow_pickle=False).shape == (30, 128)
    assert (tmp_path / "f.npy.txt").read_text().splitlines() == names(printed)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["f.npy", "f.npy.txt"]


def test_an_interrupted_prediction_leaves_no_partial_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hexavit.inference.formats import Rows

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "a.csv").write_text("what was there")
    monkeypatch.setattr(Rows, "write", interrupted)
    ask(capsys, digits_folder(), "--out", tmp_path / "a.csv", "--overwrite", status=130)
    assert [each.name for each in tmp_path.iterdir()] == ["a.csv"]
    assert (tmp_path / "a.csv").read_text() == "what was there"


def test_a_closed_pipe_is_no_error() -> None:
    code = "import sys; from hexavit.cli import main; sys.exit(main())"
    call = [sys.executable, "-c", code, "predict", str(trained().path), str(digits_folder()), "--batch-size", "1"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(call, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_features_are_complete_after_a_closed_pipe(tmp_path: Path) -> None:
    code = "import sys; from hexavit.cli import main; sys.exit(main())"
    call = [sys.executable, "-c", code, "predict", str(trained().path), str(digits_folder()), "--json"]
    read, write = os.pipe()
    os.close(read)
    features = tmp_path / "f.npy"
    done = subprocess.run([*call, "--features", features], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(np.load(features)) == 30


def test_shards_of_a_list_are_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    whole = names(ask(capsys, digits_folder(), "--json")[0])
    parts = [names(ask(capsys, digits_folder(), "--json", "--shard", f"{i}/7")[0]) for i in range(1, 8)]
    assert [part[n] for n in range(5) for part in parts if n < len(part)] == whole
    printed, remarks = ask(capsys, whole[0], "--shard", "2/2")
    assert (printed, remarks) == ("", "note: shard 2/2 has no image; the list is shorter\n")
    for wrong in ("0/2", "3/2", "2", "1/2/3", "a/b"):
        assert (
            f"--shard takes I/N with I from 1 to N, such as 1/4, not '{wrong}'"
            in ask(capsys, whole[0], "--shard", wrong, status=2)[1]
        )


def test_an_exported_file_is_predicted_evaluated_and_probed(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(exported(".onnx"))
    assert main(["predict", file, str(digits_folder()), "--top", "1", "--json"]) == 0
    found = [json.loads(line)["top"][0]["class"] for line in capsys.readouterr().out.splitlines()]
    assert main(["evaluate", file, "--data", str(digits_folder()), "--workers", "0", "--json"]) == 0
    accuracy = json.loads(capsys.readouterr().out)["accuracy"]
    right = [name == path.parent.name for name, path in zip(found, sorted(digits_folder().rglob("*.png")), strict=True)]
    assert accuracy == pytest.approx(sum(right) / 30)
    features = str(exported(".onnx", "features"))
    options = ["--data", str(digits_folder()), "--workers", "0", "--k", "1", "--c", "1", "--json"]
    assert main(["probe", features, *options]) == 0
    assert json.loads(capsys.readouterr().out)["dimension"] == 128
    assert main(["evaluate", features, "--data", str(digits_folder())]) == 2
    assert "has no classifier, so it predicts no classes" in capsys.readouterr().err
    assert main(["predict", file, str(digits_folder()), "--engine", "openvino"]) == 2
    assert "files of this kind run in onnxruntime, not in openvino" in capsys.readouterr().err
