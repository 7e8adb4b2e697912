import io
import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.using import CLASSES, digits_folder, make_folder, trained

from hexavit.errors import RunError
from hexavit.evaluation import plots
from hexavit.evaluation.evaluate import DetailedEvaluation, evaluate_with_predictions
from hexavit.evaluation.html_report import write_report
from hexavit.evaluation.plots import draw_confusion, draw_mistakes, draw_reliability
from hexavit.evaluation.predictions import Predictions


@pytest.fixture(scope="module")
def result() -> DetailedEvaluation:
    return evaluate_with_predictions(trained(), str(digits_folder()), part="all", device="cpu")


def test_every_figure_agrees_with_the_predictions(result: DetailedEvaluation) -> None:
    found, outputs = result.evaluation, result.predictions
    assert outputs.right.mean() == pytest.approx(found.accuracy)
    assert -np.log(outputs.truth_probability).mean() == pytest.approx(found.loss, rel=1e-4)
    assert found.interval[0] <= found.accuracy <= found.interval[1]
    wrong = sum(each.count for each in found.confused)
    assert wrong == found.count - outputs.right.sum()
    place = np.ceil(outputs.confidence * 15)  # bins closed on the right
    gaps = [
        abs(outputs.confidence[place == n].mean() - outputs.right[place == n].mean()) * (place == n).mean()
        for n in np.unique(place)
    ]
    assert found.ece == pytest.approx(sum(gaps), abs=1e-5)


class _Sources(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [str(value) for name, value in attrs if name in {"src", "href"}]


def test_the_report_contains_its_pictures_and_loads_nothing(result: DetailedEvaluation, tmp_path: Path) -> None:
    write_report(result, tmp_path / "out" / "report.html")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    parser = _Sources()
    parser.feed(page)
    assert len(parser.found) == 3 - (not result.evaluation.confused)
    for source in parser.found:
        kind, content = source.split(",", 1)
        assert kind == "data:image/png;base64"
        Image.open(io.BytesIO(b64decode(content))).load()
    assert not re.search(r"https?:|@import|url\(|<script", page)
    assert f"{result.evaluation.accuracy:.2%}" in page
    assert all(f"<td>{name}</td>" in page for name in CLASSES)
    title = f"cvt_nano on {digits_folder()} (all)"
    assert f"<title>{title}</title>" in page
    assert f"<h1>{title}</h1>" in page
    assert f"<td>loaded from</td><td>{trained().path}" in page
    assert "<th>true</th><th>predicted</th>" in page


def test_pictures_of_mistakes_say_what_is_true_and_what_is_predicted(
    result: DetailedEvaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells: list[Any] = []
    drawn = plots.contact_sheet
    monkeypatch.setattr(plots, "contact_sheet", lambda each, columns: (cells.extend(each), drawn(each, columns))[1])
    truth, predicted = np.array([0, 1]), np.array([1, 1])
    outputs = Predictions(np.arange(2), truth, predicted, np.array([0.75, 0.9]), np.array([0.25, 0.9]))
    draw_mistakes(outputs, ("nought", "one"), result.source)
    (cell,) = cells
    assert cell.lines[:2] == ("true: nought", "predicted: one (75%)")


def test_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    odd = ("<b>$x^{$", "a&b", "c\nd")
    outputs = Predictions(np.arange(3), np.array([0, 1, 2]), np.array([1, 0, 2]), np.full(3, 0.9), np.full(3, 0.05))
    found = evaluate_with_predictions(trained(), str(digits_folder()), part="all", device="cpu")
    evaluation = found.evaluation
    object.__setattr__(evaluation, "per_class", outputs.per_class(odd))
    object.__setattr__(evaluation, "confused", outputs.confused(odd))
    write_report(DetailedEvaluation(evaluation, outputs, odd, found.source), tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert "&lt;b&gt;$x^{$" in page
    assert "<b>" not in page


def test_class_names_that_the_font_lacks_are_drawn() -> None:
    labels = np.arange(2)  # a warning of a missing glyph is an error here
    draw_confusion(Predictions(labels, labels, labels, np.ones(2), np.ones(2)), ["\u8d70\u308b", "$\U0001f600"])


def test_pictures_of_many_classes_and_of_none_wrong(result: DetailedEvaluation) -> None:
    many = np.arange(100)
    outputs = Predictions(many, many, many, np.ones(100), np.ones(100))
    for png in (draw_confusion(outputs, [str(n) for n in many]), draw_reliability(outputs)):
        Image.open(io.BytesIO(png)).load()
    assert draw_mistakes(outputs, [str(n) for n in many], result.source) is None


def test_a_report_that_cannot_be_written_is_rejected(result: DetailedEvaluation, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="this file cannot be written"):
        write_report(result, tmp_path / "file" / "a.html")


def test_a_class_without_images_does_not_harm(tmp_path: Path) -> None:
    data = make_folder(tmp_path, 3, first=20)
    for file in (data / "one").iterdir():
        file.unlink()
    (data / "one").rmdir()
    write_report(evaluate_with_predictions(trained(), str(data), device="cpu"), tmp_path / "a.html")
