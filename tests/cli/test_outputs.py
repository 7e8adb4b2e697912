"""No command replaces a file that exists without --overwrite."""

from pathlib import Path

import pytest
import torch
from tests.using import digits_folder, trained

import hexavit
from hexavit.cli import main

PHOTO = b"a photograph"
CALLS = {
    "runs {run} --plot": "a.png",
    "evaluate {run} --data {data} --report": "a.html",
    "predict {run} {data} --out": "a.csv",
    "predict {run} {data} --features": "a.npy",
    "data check {data} --sheet": "b.png",
    "convert {file} --to authors": "b.pth",
}


@pytest.mark.parametrize("call", CALLS)
def test_an_existing_file_is_kept(call: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "model.pth"
    torch.save(hexavit.create_model("cvt_nano").state_dict(), file)
    out = tmp_path / CALLS[call]
    out.write_bytes(PHOTO)
    words = [*call.format(run=trained().path, data=digits_folder(), file=file).split(), str(out)]
    assert main(words) == 2
    assert capsys.readouterr().err == f"error: {out}: this already exists; pass --overwrite to replace it\n"
    assert out.read_bytes() == PHOTO
    assert main([*words, "--overwrite"]) == 0
    assert out.read_bytes() != PHOTO


def test_a_file_is_not_converted_onto_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "model.pth"
    torch.save(hexavit.create_model("cvt_nano").state_dict(), file)
    before = file.read_bytes()
    assert main(["convert", str(file), str(file), "--to", "authors"]) == 2
    assert "this already exists" in capsys.readouterr().err
    assert file.read_bytes() == before


@pytest.mark.parametrize("command", ["show", "profile"])
def test_a_run_and_a_saved_folder_are_models(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = hexavit.save_pretrained(trained().model(), tmp_path / "saved")
    printed = []
    for folder in (trained().path, saved):
        assert main([command, str(folder)]) == 0
        printed.append(capsys.readouterr().out.replace(str(folder), ""))
    assert printed[0] == printed[1]
    parameters = sum(each.numel() for each in trained().model().parameters())
    shown = f"{parameters / 1e3:#.4g} k" if command == "show" else f"{parameters:,}"
    assert shown in printed[0]
    for wrong in (tmp_path, "no/such/run"):
        assert main([command, str(wrong)]) == 2
        assert capsys.readouterr().err.startswith(f"error: {wrong}: this is neither a model name, nor a run folder")
