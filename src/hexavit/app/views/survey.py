"""The view "Survey": the table of mechanisms with filters."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hexavit.app import markup, surveying
from hexavit.app.views.events import PRIVATE, guarded, html, message

_FILTERS = (("System", "system"), ("Column", "kind"), ("Part", "part"), ("Size", "size"), ("Licence", "licence"))


def build() -> None:
    """Add the view's widgets to the page that is being built."""
    with gr.Row():
        widgets: list[Any] = [
            gr.Dropdown(surveying.menu(name), value=surveying.ANY, label=label, min_width=140, elem_id=f"filter-{name}")
            for label, name in _FILTERS
        ]
        widgets.append(gr.Textbox(label="Words", min_width=140, max_lines=1, elem_id="filter-words"))
    error = message("survey-error")
    table = html("survey", _table())
    for widget in widgets:
        widget.change(guarded(lambda *filters: (_table(*filters),), 1), widgets, [error, table], **PRIVATE)


def _table(*filters: str) -> str:
    rows = surveying.filtered(*filters)
    if not rows:
        return markup.note("No mechanism satisfies all filters: set one of them to any.")
    every = len(surveying.mechanisms())
    caption = f"{len(rows)} of {every} mechanisms"
    cells = [surveying.HEAD, *(row.cells() for row in rows)]
    return markup.table(cells, caption=caption, code=(3, 4, 7))
