"""The views "Runs" and "Studies": what training has written."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pandas as pd
from PIL import Image

from hexavit.app import markup, run_pages
from hexavit.app.sources import Sources
from hexavit.app.views.events import HEAVY, PRIVATE, Start, guarded, html, message

_COLOURS = {"training": "#6366f1", "validation": "#ea580c"}
_MARKED = 30  # most epochs that the plots mark one by one
_NO_RUN = "No run was given: start hexavit app with run folders, or with a folder of runs."
_NO_STUDY = "No study was given: start hexavit app with the folder of a study."


def build(sources: Sources) -> Start | None:
    """Add the widgets of the view of runs to the page that is being built."""
    if not sources.runs:
        html("no-run", markup.note(_NO_RUN))
        return None
    first = next(iter(sources.runs))
    if len(sources.runs) > 1:
        html("all-runs", markup.table(run_pages.comparison_rows(sources), caption="All runs"))
    run = gr.Dropdown(list(sources.runs), value=first, label="Run", elem_id="run")
    error = message("run-error")
    with gr.Row():
        plots = [
            gr.LinePlot(x="epoch", y="value", color="of", title=name, y_title=name, height=260, min_width=300,
                        color_map=_COLOURS, elem_id=f"plot-{name}")
            for name in ("loss", "accuracy")
        ]  # fmt: skip
    figures = html("run-figures")
    button = gr.Button("Evaluate on the validation images", variant="primary", elem_id="evaluate")
    sentence = html("evaluation")
    confusion = html("confusion")
    confused = html("confused")

    def show(label: str) -> tuple[Any, ...]:
        rows, settings = run_pages.run_rows(sources, label)
        drawn = [_plot(run_pages.curves(sources, label, figure)) for figure in ("loss", "accuracy")]
        listed = markup.table(rows) + markup.details("All settings", markup.table(settings))
        return (listed, *drawn, "", "", "")

    def evaluate(label: str) -> tuple[Any, ...]:
        found = run_pages.evaluate_run(sources, label)
        pictures = [(found.confusion, "Confusion matrix"), (found.mistakes, "Worst mistakes")]
        several = len(found.confused) > 1
        listed = markup.table(found.confused, caption="Confused most often") if several else ""
        return (markup.note(found.sentence) + markup.note(found.notes), _figures(pictures), listed)

    evaluation = [sentence, confusion, confused]
    start = Start(guarded(show, 6), [run], [error, figures, *plots, *evaluation])
    start.listen(run.input)
    button.click(guarded(evaluate, 3), run, [error, *evaluation], **{**HEAVY, "show_progress": "full"})
    return start


def build_studies(sources: Sources) -> Start | None:
    """Add the widgets of the view of studies to the page that is being built."""
    if not sources.studies:
        html("no-study", markup.note(_NO_STUDY))
        return None
    study = gr.Dropdown(list(sources.studies), value=next(iter(sources.studies)), label="Study", elem_id="study")
    error = message("study-error")
    report = gr.Markdown(elem_id="report")
    pictures = html("study-pictures")

    def show(label: str) -> tuple[Any, ...]:
        text, (curves, pareto) = run_pages.study_report(sources, label)
        return (text, _figures([(curves, "Accuracy by epoch"), (pareto, "Accuracy against cost")]))

    start = Start(guarded(show, 2), [study], [error, report, pictures], {**PRIVATE, "show_progress": "full"})
    start.listen(study.input)
    return start


def _figures(pictures: list[tuple[Image.Image | None, str]]) -> str:
    return markup.figures([(each, caption) for each, caption in pictures if each is not None], kind="plots")


def _plot(points: list[dict[str, Any]]) -> Any:
    """Few epochs are marked one by one, as an axis of numbers would have fractions of epochs."""
    frame = pd.DataFrame(points, columns=["epoch", "value", "of"]).astype({"epoch": int})
    epochs = sorted(set(frame["epoch"]))
    if len(epochs) > _MARKED:
        return gr.LinePlot(frame, sort=None)
    return gr.LinePlot(frame.astype({"epoch": str}), sort=[str(each) for each in epochs])
