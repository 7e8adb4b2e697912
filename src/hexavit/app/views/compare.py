"""The view "Compare": two models or two edits side by side, and menus that edit the second."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hexavit.app import comparing, markup
from hexavit.app.sources import Sources
from hexavit.app.views.events import ORDERED, PRIVATE, Start, guarded, html, message
from hexavit.errors import HexavitError
from hexavit.parts.registry import KINDS

_COMPARE = {**ORDERED, "concurrency_id": "compare"}
_MENUS = {**ORDERED, "concurrency_id": "menus", "show_progress": "hidden"}


def build(sources: Sources) -> tuple[Start, Start]:
    """Add the view's widgets to the page that is being built."""
    labels = sources.labels()
    first = next(iter(sources.models), "cvt_13")
    with gr.Row():
        one, one_edits = _side("A", labels, first)
        other, other_edits = _side("B", labels, first)
    gr.Markdown("**Edit B**: choose a stage and a column, then a part, or an option and its value.")
    with gr.Group(), gr.Row():
        stage = gr.Dropdown(["0"], value="0", label="Stage", min_width=90, elem_id="edit-stage")
        kind = gr.Dropdown(list(KINDS), value="attention", label="Column", min_width=130, elem_id="edit-column")
        part = gr.Dropdown([], label="Part", min_width=220, elem_id="edit-part")
        option = gr.Dropdown([], label="Option", min_width=160, elem_id="edit-option")
        value = gr.Textbox(label="Value (Enter applies)", min_width=130, max_lines=1, elem_id="edit-value")
    with gr.Row():
        undo = gr.Button("Undo the last edit", size="sm")
        reset = gr.Button("Remove all edits of B", size="sm")
    error = message("compare-error")
    columns = html("columns")
    with gr.Row():
        cost, different = _column("cost"), _column("differences")
    with gr.Row():
        macs, parameters = _column("macs"), _column("parameters")

    def compare(a: str, a_edits: str, b: str, b_edits: str) -> tuple[Any, ...]:
        pair = [
            _named_error(name, comparing.side, label, sources.architecture(label), comparing.edits_of(edits))
            for name, label, edits in (("A", a, a_edits), ("B", b, b_edits))
        ]
        left, right = pair
        names = [f"A: {left.name}", f"B: {right.name}"]
        stages = comparing.stage_rows(left.architecture, right.architecture)
        found = comparing.differences(left.architecture, right.architecture)
        listed = markup.table(found, caption="What differs") if len(found) > 1 else markup.note("A and B are equal.")
        drawn = [
            markup.paired_bars(comparing.cost_by_kind(left, right, unit), names, caption)
            for unit, caption in (("macs", "Multiply-adds by part"), ("parameters", "Parameters by part"))
        ]
        return (
            markup.columns(list(KINDS), stages, names),
            markup.table(comparing.cost_rows(left, right), caption="Cost of one image"),
            listed,
            *drawn,
        )

    def menus(b: str, b_edits: str, at: str, column: str) -> tuple[Any, ...]:
        architecture = sources.architecture(b).override(comparing.edits_of(b_edits))
        known = comparing.stages_of(architecture)
        at = at if at in known else known[-1]
        parts = comparing.choices(architecture, at, column)
        here = comparing.current(architecture, at, column)
        options = comparing.option_values(architecture, at, column)
        chosen = next((each.value for each in parts if each.name == here[0].name), None)
        listed = [(f"{key} = {text}" if text else key, key) for key, text in options.items()]
        return (
            gr.update(choices=known, value=at),
            gr.update(choices=[(each.label, each.value) for each in parts], value=chosen),
            gr.update(choices=listed, value=next(iter(options), None)),
            gr.update(value=next(iter(options.values()), "")),
        )

    def swap(b_edits: str, at: str, column: str, chosen: str) -> tuple[str]:
        return ("\n".join(comparing.with_edit(comparing.edits_of(b_edits), comparing.path_of(at, column), chosen)),)

    def set_option(b_edits: str, at: str, column: str, key: str | None, text: str) -> tuple[str]:
        if not key or not text.strip():
            raise HexavitError("choose an option and give its value")
        path = f"{comparing.path_of(at, column)}.{key}"
        return ("\n".join(comparing.with_edit(comparing.edits_of(b_edits), path, text.strip())),)

    def show_value(b: str, b_edits: str, at: str, column: str, key: str | None) -> tuple[str]:
        architecture = sources.architecture(b).override(comparing.edits_of(b_edits))
        return (comparing.option_values(architecture, at, column).get(key or "", ""),)

    sides = [one, one_edits, other, other_edits]
    start = Start(guarded(compare, 5), sides, [error, columns, cost, different, macs, parameters], _COMPARE)
    menu = Start(
        guarded(menus, 4),
        [other, other_edits, stage, kind],
        [message("menu-error"), stage, part, option, value],
        _MENUS,
    )
    for widget in sides:
        start.listen(widget.change)
    for widget in (other, other_edits):
        widget.change(menu.function, menu.inputs, [gr.State(), *menu.outputs[1:]], **_MENUS)
    for widget in (stage, kind):
        menu.listen(widget.input)
    part.input(guarded(swap, 1), [other_edits, stage, kind, part], [error, other_edits], **PRIVATE)
    option.input(guarded(show_value, 1), [other, other_edits, stage, kind, option], [error, value], **PRIVATE)
    value.submit(guarded(set_option, 1), [other_edits, stage, kind, option, value], [error, other_edits], **PRIVATE)
    undo.click(lambda text: "\n".join(comparing.edits_of(text)[:-1]), other_edits, other_edits, **PRIVATE)
    reset.click(lambda: "", None, other_edits, **PRIVATE)
    return start, menu


def _side(name: str, labels: list[str], first: str) -> tuple[gr.Dropdown, gr.Textbox]:
    with gr.Column(min_width=280):
        model = gr.Dropdown(labels, value=first, label=f"Model {name}", elem_id=f"model-{name.lower()}")
        edits = gr.Textbox(
            "", label=f"Edits of {name}, one per line", placeholder="stages.2.attention=window(window=7)", lines=2,
            max_lines=8, elem_id=f"edits-{name.lower()}",
        )  # fmt: skip
    return model, edits


def _column(name: str) -> gr.HTML:
    """A widget for HTML in a row, which on narrow screens is below the one before it."""
    with gr.Column(min_width=300):
        return html(name)


def _named_error(name: str, function: Any, *values: Any) -> Any:
    """Call a function; its error names the side."""
    try:
        return function(*values)
    except HexavitError as error:
        raise HexavitError(f"{name}: {error}") from error
