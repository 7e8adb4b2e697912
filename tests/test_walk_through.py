"""Runs the commands of docs/walk-through.md, on fewer images and for fewer epochs, and compares their output."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "walk-through.md"
SMALL = {
    " photographs\n": " photographs --per-class 9\n",
    "--epochs 12": "--epochs 1",
    "--img-size 64": "--img-size 32",
}


def commands() -> list[tuple[str, int]]:
    """Each command of the page, made small, and its exit status on the page."""
    found = re.findall(
        r"^```bash(?: exit=(\d))?\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    made = []
    for status, text in found:
        for large, small in SMALL.items():
            text = text.replace(large, small)
        made.append((text, int(status or 0)))
    return made


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The working folder of all commands, and the output of each."""
    place = tmp_path_factory.mktemp("walk")
    (place / "examples").symlink_to(ROOT / "examples")
    start = f'{sys.executable} -c "import sys; from hexavit.cli import main; sys.exit(main())"'
    defined = f'hexavit() {{ {start} "$@"; }}\npython() {{ {sys.executable} "$@"; }}\nset -o pipefail\n'
    outputs = []
    for command, status in commands():
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        call = [shutil.which("bash") or "bash", "-c", defined + command]
        done = subprocess.run(call, cwd=place, env=env, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == status, f"{command}\n{done.stdout}\n{done.stderr}"
        outputs.append(done.stdout + done.stderr)
    return place, outputs


@pytest.mark.slow
def test_commands_print_what_the_page_shows(results: tuple[Path, list[str]]) -> None:
    place, outputs = results
    check, train, evaluate, probe, predict = outputs[1], outputs[3], outputs[4], outputs[5], outputs[6]
    assert "duplicates 1, of which" in check
    assert "= seven/copy-of-a-one.png" in check
    assert "broken     3\n" in check
    assert "broken images left out: 3" in train
    assert re.search(r"\(val\), best weights: 2[34] images", evaluate)
    assert re.search(r"k-NN +\d+\.\d\d% .*\nlinear", probe)
    assert "error: 1 of 25 images could not be read; the others are done" in predict
    assert len(predict.splitlines()) == 1 + 24 + 2
    with (place / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(np.load(place / "features.npy")) == len(rows) > 3
    assert len({json.loads(line)["image"] for line in outputs[8].splitlines()}) > 2
    assert (place / "sheet.png").is_file()
    assert (place / "report.html").is_file()


def test_the_folder_is_reproducible(tmp_path: Path) -> None:
    for name in ("first", "second"):
        call = [sys.executable, "-W", "error", str(ROOT / "examples" / "photographs.py"), name, "--per-class", "8"]
        subprocess.run(call, cwd=tmp_path, check=True, capture_output=True)
    first, second = (sorted((tmp_path / name).rglob("*")) for name in ("first", "second"))
    assert [each.relative_to(tmp_path / "first") for each in first] == [
        each.relative_to(tmp_path / "second") for each in second
    ]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True) if a.is_file())
    assert len(list((tmp_path / "first" / "classes").rglob("*.*"))) == 12 * 8 + 4
