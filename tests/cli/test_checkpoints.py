"""`hexavit inspect` and `hexavit convert`."""

import json
from pathlib import Path

import pytest
import torch

import hexavit
from hexavit.cli import main


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save({"model": hexavit.create_model("cvt_nano", num_classes=4).state_dict(), "epoch": 1}, tmp_path / "a.pth")
    return tmp_path / "a.pth"


def test_inspect_and_convert(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(file)]) == 0
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("cvt_nano", "hexavit", "'model'", "epoch"))
    out = file.with_name("b.pth")
    assert main(["convert", str(file), str(out), "--to", "authors", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["target"] == "authors"
    assert main(["inspect", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["origin"] == "authors (cvt)"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["convert", "{}", "b.pth"], "needs --to"),
        (["convert", "{}", "b.pth", "--to", "timn"], "did you mean 'timm'?"),
        (["convert", "{}", "b.npz", "--to", "authors"], "are .pth, .safetensors, not .npz"),
        (["inspect", "absent.pth"], "cannot be read: No such file"),
        (["inspect", "{}", "--entry", "modl"], "did you mean 'model'?"),
    ],
)
def test_wrong_calls(file: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([argument.format(file) for argument in arguments]) == 2
    printed = capsys.readouterr().err
    assert sentence in printed
    assert printed.count("\n") == 1
