"""Models compared without training."""

import json
from pathlib import Path

import pytest
from PIL import Image

from hexavit.cli._main import main
from hexavit.models import resolve
from hexavit.profiling import profile
from hexavit.studies.comparison import Compared, Measured, compare, table

pytestmark = pytest.mark.usefixtures("one_thread")


def test_variants_of_cvt_13_have_the_papers_costs() -> None:
    """CvT, table 7 and its code: 4.566 G multiply-adds with a stride of 2 for keys and values, 6.643 G with 1."""
    edits = [["stages.*.attention.stride_kv=2"], ["stages.*.attention.stride_kv=1"]]
    found = compare(["cvt_13"], edits)
    assert [round(each.counted.macs / 1e9, 3) for each in found] == [4.566, 6.643]
    assert [each.top1 for each in found] == [None, None]  # edited
    (plain,) = compare(["cvt_13"])
    assert plain.top1 == 0.816
    assert "microsoft/CvT" in plain.source


def test_growth_is_the_slope_of_time_over_pixels() -> None:
    architecture = resolve("deit_nano")
    measured = {16: Measured(1000.0, None), 32: Measured(125.0, None)}  # 8 times the time for 4 times the pixels
    each = Compared("a", architecture, profile(architecture), measured=measured)
    assert each.growth == pytest.approx(1.5)
    rows = {row[0]: row[1] for row in table([each])}
    assert rows["time grows as pixels^"] == "1.50"
    assert rows["images/s at 32"] == "125.0"
    assert rows["peak memory at 32"] == "–"


def test_the_command_prints_measures_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "costs.png"
    arguments = ["compare", "deit_nano", "cvt_nano", "--sizes", "32,48", "--rounds", "1", "--batch-size", "1"]
    assert main([*arguments, "--plot", str(picture), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in found["models"]] == ["deit_nano", "cvt_nano"]
    assert all(each["measured"]["48"]["images_per_second"] > 0 for each in found["models"])
    with Image.open(picture) as drawn:
        assert drawn.format == "PNG"
    assert main(["compare", "deit_nano", "--plot", str(picture)]) == 2
    assert "pass --overwrite" in capsys.readouterr().err
    assert main(["compare", "deit_nano", "--sizes", "big"]) == 2
    assert "--sizes takes whole numbers" in capsys.readouterr().err
    assert main(["compare", "deit_nano", "--set", "stages.0.depth=1,2"]) == 0
    out = capsys.readouterr().out
    assert "deit_nano, stages.0.depth=2" in out
    assert "  of feedforward" in out
