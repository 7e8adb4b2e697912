"""A run and a study as the page shows them: figures, curves, confusion, mistakes, and the study's report."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

from PIL import Image

from hexavit.app.sources import Sources
from hexavit.duration import in_words
from hexavit.errors import HexavitError
from hexavit.evaluation.evaluate import evaluate_with_predictions
from hexavit.evaluation.plots import draw_confusion, draw_mistakes
from hexavit.evaluation.predictions import Predictions
from hexavit.images.decode import shown
from hexavit.studies.report import markdown, pictures
from hexavit.studies.results import gather
from hexavit.studies.run import status

Rows = list[list[str]]


def run_rows(sources: Sources, label: str) -> tuple[Rows, Rows]:
    """The figures of a run, and its settings; each with a header.

    Raises:
        HexavitError: there is no such run, or it is broken.
    """
    sources.run(label)
    summary = sources.summaries[label]
    if summary.state == "broken":
        raise HexavitError(f"{label}: {summary.problem}")
    cells = {
        "model": str(summary.settings.get("model", "–")),
        "data": summary.data,
        "state": summary.state,
        "best accuracy": _written(summary.accuracy, "{:.2%}"),
        "last": _written(summary.last_accuracy, "{:.2%}"),
        "validation loss": _written(summary.loss, "{:.4f}"),
        "epochs": f"{summary.epochs} of {summary.settings.get('epochs', '?')}",
        "parameters": _written(summary.parameters, "{:,}"),
        "training time": "–" if summary.seconds is None else in_words(summary.seconds),
    }
    settings = [[name, shown(str(value))] for name, value in summary.settings.items() if value is not None]
    return [list(cells), list(cells.values())], [["setting", "value"], *settings]


def _written(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def comparison_rows(sources: Sources) -> Rows:
    """All runs: name, model, data, accuracy and state, in the order in which they were found."""
    rows = [["run", "model", "data", "best", "epochs", "state"]]
    for label, summary in sources.summaries.items():
        best = "–" if summary.accuracy is None else f"{summary.accuracy:.2%}"
        rows.append(
            [label, str(summary.settings.get("model", "–")), summary.data, best, str(summary.epochs), summary.state]
        )
    return rows


def curves(sources: Sources, label: str, figure: str) -> list[dict[str, float | str]]:
    """The `loss` or the `accuracy` of a run by epoch: a record with `epoch`, `value` and `of` for each point."""
    sources.run(label)
    names = {"train_loss": "training", "loss": "validation"} if figure == "loss" else {"accuracy": "validation"}
    return [
        {"epoch": row["epoch"], "value": row[name], "of": of}
        for row in sources.summaries[label].history
        for name, of in names.items()
        if name in row
    ]


@dataclass(frozen=True)
class RunEvaluation:
    """A run evaluated on its data.

    Attributes:
        sentence: what was evaluated, with the accuracy.
        notes: sentences on the choice of images.
        confusion: picture of the confusion matrix; None where images have several classes.
        mistakes: picture of the worst mistakes; None if there are none.
        confused: a header and the pairs of classes confused most often.
    """

    sentence: str
    notes: str
    confusion: Image.Image | None
    mistakes: Image.Image | None
    confused: Rows


def evaluate_run(sources: Sources, label: str) -> RunEvaluation:
    """Evaluate a run on its test or validation images.

    Raises:
        HexavitError: the run or its data cannot be read.
    """
    run = sources.run(label)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it warns of is in the notes
        found = evaluate_with_predictions(run, str(run.settings().get("data", "")), on_bad_image="skip")
    evaluation, predictions = found.evaluation, found.predictions
    low, high = evaluation.interval
    sentence = (
        f"{evaluation.accuracy:.2%} of {evaluation.count} images ({evaluation.part}) are right "
        f"(95 % interval {low:.2%} to {high:.2%}); expected calibration error {evaluation.ece:.2%}."
    )
    confused = [["true", "predicted", "images"]]
    if not isinstance(predictions, Predictions):
        return RunEvaluation(sentence, " ".join(evaluation.notes), None, None, confused)
    confused += [[each.truth, each.predicted, str(each.count)] for each in evaluation.confused[:10]]
    mistakes = draw_mistakes(predictions, found.classes, found.source, 12)
    return RunEvaluation(
        sentence,
        " ".join(evaluation.notes),
        Image.open(io.BytesIO(draw_confusion(predictions, found.classes))),
        None if mistakes is None else Image.open(io.BytesIO(mistakes)),
        confused,
    )


def study_report(sources: Sources, label: str) -> tuple[str, tuple[Image.Image | None, Image.Image | None]]:
    """The report of a study as Markdown, or which of its cells have finished; and its curves and costs as pictures.

    Raises:
        HexavitError: there is no such study, or its queue cannot be read.
    """
    study, states = status(sources.study(label))
    if all(state.outcome is None for state in states):
        lines = [f"# {study.title or study.name}", "No cell of this study has finished yet."]
        lines.append("\n".join(f"- {state.cell}, seed {state.seed}: {state.state}" for state in states))
        return "\n\n".join(lines), (None, None)
    results = gather(study, states, measure=False)
    curves, pareto = (Image.open(io.BytesIO(png)) for png in pictures(results).values())
    return markdown(results), (curves, pareto)
