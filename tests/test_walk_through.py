"""The walk-through's commands, taken from its page, do what the page says; on fewer images and for fewer epochs."""

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
    """Each command of the page, made small, with the exit status that the page tells."""
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
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder in which all commands ran, and what each printed."""
    place = tmp_path_factory.mktemp("walk")
    (place / "examples").symlink_to(ROOT / "examples")
    start = f'{sys.executable} -c "import sys; from hexavit.cli import main; sys.exit(main())"'
    defined = f'hexavit() {{ {start} "$@"; }}\npython() {{ {sys.executable} "$@"; }}\nset -o pipefail\n'
    told = []
    for command, status in commands():
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        call = [shutil.which("bash") or "bash", "-c", defined + command]
        done = subprocess.run(call, cwd=place, env=env, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == status, f"{command}\n{done.stdout}\n{done.stderr}"
        told.append(done.stdout + done.stderr)
    return place, told


@pytest.mark.slow
def test_every_command_does_what_the_page_says(walked: tuple[Path, list[str]]) -> None:
    place, told = walked
    check, train, evaluate, probe, predict = told[1], told[3], told[4], told[5], told[6]
    assert "duplicates 1, of which" in check
    assert "= seven/copy-of-a-one.png" in check
    assert "broken     3\n" in check
    assert "broken images left out: 3" in train
    assert re.search(r"\(val\), best weights: 2[34] images", evaluate)
    assert re.search(r"k-NN +\d+\.\d\d% .*\nlinear", probe)
    assert "error: 1 of 25 images could not be read; the others are done" in predict
    assert len(predict.splitlines()) == 1 + 24 + 2
    with (place / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(np.load(place / "features.npy")) == len(rows) > 3
    assert len({json.loads(line)["image"] for line in told[8].splitlines()}) > 2
    assert (place / "sheet.png").is_file()
    assert (place / "report.html").is_file()


def test_the_folder_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("first", "second"):
        call = [sys.executable, "-W", "error", str(ROOT / "examples" / "photographs.py"), name, "--per-class", "8"]
        subprocess.run(call, cwd=tmp_path, check=True, capture_output=True)
    first, second = (sorted((tmp_path / name).rglob("*")) for name in ("first", "second"))
    assert [each.relative_to(tmp_path / "first") for each in first] == [
        each.relative_to(tmp_path / "second") for each in second
    ]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True) if a.is_file())
    assert len(list((tmp_path / "first" / "classes").rglob("*.*"))) == 12 * 8 + 4
