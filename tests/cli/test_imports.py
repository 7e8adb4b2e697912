"""Parts of one's own on the command line, by ``--import``."""

import sys
from pathlib import Path

import pytest

from hexavit.cli import main

PART = """
import hexavit


@hexavit.register_part("feedforward", "{name}")
class Halved(hexavit.PartModule):
    def forward(self, tokens):
        return tokens.each(lambda x: x / 2)
"""


@pytest.mark.usefixtures("restored_registries")
def test_a_file_and_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for module, how in (("halved_by_file", "halved_by_file.py"), ("halved_by_name", "halved_by_name")):
        Path(f"{module}.py").write_text(PART.format(name=module))
        assert main(["show", "cvt_nano", "--import", how, "--set", f"stages.*.feedforward={module}"]) == 0
        assert module in capsys.readouterr().out
        sys.modules.pop(module)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--import"], "--import needs a module name or a .py file"),
        (["--import=nowhere_at_all"], "--import nowhere_at_all: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        (["--import", "nowhere.py"], "--import nowhere.py: FileNotFoundError"),
        (["--set", "stages.*.feedforward=halved"], "a part of your own is registered first"),
    ],
)
def test_errors(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "cvt_nano", *arguments]) == 2
    printed = capsys.readouterr().err
    assert sentence in printed
    assert printed.count("\n") == 1
