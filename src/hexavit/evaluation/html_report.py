"""Writes an evaluation to one self-contained HTML file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from hexavit.evaluation.evaluate import DetailedEvaluation, Evaluation
from hexavit.evaluation.plots import draw_confusion, draw_mistakes, draw_reliability
from hexavit.evaluation.predictions import Predictions
from hexavit.files import write_text
from hexavit.images.decode import shown

_CONFUSED = 20  # most pairs listed
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; height: auto; }
"""


def write_report(result: DetailedEvaluation, path: str | Path) -> None:
    """Write the figures, the reliability diagram, the confusion matrix and the worst mistakes.

    Args:
        result: of :func:`hexavit.evaluation.evaluate.evaluate_with_predictions`.
        path: of the HTML file; it is written atomically.

    Raises:
        RunError: the file cannot be written.
    """
    found, predictions = result.evaluation, result.predictions
    title = f"{found.model or 'Model'} on {found.data} ({found.part})"
    body = [
        f"<h1>{_text(title)}</h1>",
        _table(("", "value"), _figures(found)),
        *_remarks(found),
        "<h2>Calibration</h2>",
        "<p>On the dashed line the model is calibrated: of predictions at 80 % confidence, 80 % are right.</p>",
        _image(draw_reliability(predictions), "accuracy by confidence"),
        *(_of_one_class(result, predictions) if isinstance(predictions, Predictions) else ()),
        "<h2>Classes</h2>",
        _classes(found),
    ]
    head = f'<meta charset="utf-8"><title>{_text(title)}</title><style>{_STYLE}</style>'
    write_text(
        Path(path),
        "\n".join(["<!doctype html>", f'<html lang="en"><head>{head}</head><body>', *body, "</body></html>\n"]),
    )


def _of_one_class(result: DetailedEvaluation, predictions: Predictions) -> list[str]:
    """The sections for data with one class per image: confusion and mistakes."""
    mistakes = draw_mistakes(predictions, result.classes, result.source)
    return [
        "<h2>Confusion</h2>",
        _image(draw_confusion(predictions, result.classes), "confusion matrix"),
        _table(
            ("true", "predicted", "images"),
            ((each.truth, each.predicted, str(each.count)) for each in result.evaluation.confused[:_CONFUSED]),
        ),
        "<h2>Worst mistakes</h2>",
        _image(mistakes, "images whose true class got the least probability") if mistakes else "<p>None.</p>",
    ]


def _classes(found: Evaluation) -> str:
    """The table of classes; with thresholds where images have several classes."""
    several = found.mean_average_precision is not None
    head = ("class", "images", "precision", "recall", "F1", *(("average precision", "threshold") if several else ()))
    rows = []
    for each in found.per_class:
        row = [each.name, str(each.count), *map(_share, (each.precision, each.recall, each.f1))]
        rows.append([*row, _share(each.average_precision), f"{each.threshold:.3f}"] if several else row)
    return _table(head, rows)


def _figures(found: Evaluation) -> list[tuple[str, str]]:
    low, high = found.interval
    several = found.mean_average_precision is not None
    figures = [
        *([("model", found.model)] if found.model else []),
        *([("loaded from", found.source)] if found.source else []),
        ("weights", found.weights),
        ("data", found.data),
        ("split", found.part),
        ("images", str(found.count)),
        *([("mean average precision", _share(found.mean_average_precision))] if several else []),
        ("accuracy (all classes of an image right)" if several else "accuracy (top-1)", f"{found.accuracy:.2%}"),
        ("95 % CI (bootstrap)", f"{100 * low:.2f}–{100 * high:.2f} %"),
        *([("top-5", f"{found.top5:.2%}")] if found.top5 is not None else []),
        ("cross-entropy", f"{found.loss:.4f}"),
        ("expected calibration error", f"{found.ece:.2%}"),
        ("F1, mean over classes", f"{found.macro_f1:.2%}"),
        *([("F1 over all classes of all images", _share(found.micro_f1))] if several else []),
    ]
    return figures


def _remarks(found: Evaluation) -> list[str]:
    remarks = list(found.notes)
    if found.among == "data":
        remarks.append("Predictions are among the classes of the data only.")
    if found.left_out:
        remarks.append(f"Left out because the model does not have the class: {', '.join(found.left_out)}.")
    if found.skipped:
        remarks.append(f"Could not be read: {'; '.join(found.skipped.values())}.")
    return [f"<p>{_text(each)}</p>" for each in remarks]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"


def _text(text: str) -> str:
    return escape(shown(text))


def _image(png: bytes, text: str) -> str:
    return f'<img alt="{_text(text)}" src="data:image/png;base64,{b64encode(png).decode()}">'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["<table><tr>" + "".join(f"<th>{_text(cell)}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return "\n".join([*lines, "</table>"])
