import json
import shutil
from pathlib import Path

import pytest
from tests.using import trained

from hexavit.app import run_pages
from hexavit.app.sources import Sources
from hexavit.errors import HexavitError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_figures_of_a_run() -> None:
    run = trained()
    sources = Sources([run.path])
    rows, settings = run_pages.run_rows(sources, str(run.path))
    figures = dict(zip(*rows, strict=True))
    metrics = json.loads(run.metrics.read_text())
    assert figures["best accuracy"] == f"{metrics['accuracy']:.2%}"
    assert figures["epochs"] == "2 of 2"
    assert ["model", "cvt_nano"] in settings
    assert run_pages.comparison_rows(sources)[1][:2] == [str(run.path), "cvt_nano"]


def test_curves_are_the_history() -> None:
    run = trained()
    sources = Sources([run.path])
    assert len(run_pages.curves(sources, str(run.path), "loss")) == 4
    assert [row["epoch"] for row in run_pages.curves(sources, str(run.path), "accuracy")] == [1, 2]


def test_an_evaluation_of_a_run() -> None:
    run = trained()
    found = run_pages.evaluate_run(Sources([run.path]), str(run.path))
    assert found.confusion is not None
    accuracy = json.loads(run.metrics.read_text())["accuracy"]
    assert found.sentence.startswith(f"{accuracy:.2%} of ")
    assert (found.mistakes is None) == (accuracy == 1)


def test_a_broken_run_is_an_error(tmp_path: Path) -> None:
    shutil.copytree(trained().path, tmp_path / "run")
    (tmp_path / "run" / "metrics.csv").write_text("epoch,loss\n1,x\n")
    sources = Sources([tmp_path / "run"])
    with pytest.raises(HexavitError, match="this history is damaged"):
        run_pages.run_rows(sources, str(tmp_path / "run"))
    assert str(tmp_path / "run") not in sources.models


def test_a_study_that_has_not_begun_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(
        "settings: {model: cvt_nano, data: digits}\nvariants: {a: [head=pool], b: []}\n"
    )
    sources = Sources([tmp_path])
    with pytest.raises(HexavitError, match=r"has not been started|a study"):
        run_pages.study_report(sources, str(tmp_path))
