"""The page: its views as tabs, colours and style."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from hexavit.app.sources import Sources
from hexavit.app.views import compare, runs, see, survey

STYLE = Path(__file__).with_name("style.css")
_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def build_page(sources: Sources) -> gr.Blocks:
    """The page for these sources. Gradio's analytics are off."""
    with gr.Blocks(title="hexavit", analytics_enabled=False, fill_width=True, delete_cache=(600, 3600)) as blocks:
        gr.Markdown("# hexavit\nA vision transformer is six choices.", elem_id="title")
        with gr.Tabs():
            with gr.Tab("See", id="see"):
                see.build(sources).on(blocks.load)
            with gr.Tab("Compare", id="compare") as tab:
                for start in compare.build(sources):
                    start.on(tab.select)
            with gr.Tab("Survey", id="survey"):
                survey.build()
            for title, build_view in (("Runs", runs.build), ("Studies", runs.build_studies)):
                with gr.Tab(title, id=title.lower()) as tab:
                    if (filled := build_view(sources)) is not None:
                        filled.on(tab.select)
    blocks.queue(max_size=64, default_concurrency_limit=4, api_open=False)
    return blocks


def theme() -> gr.themes.Base:
    """Colours, with the fonts of the reader's own system."""
    return gr.themes.Default(
        primary_hue="indigo", secondary_hue="indigo", neutral_hue="slate", font=_SANS, font_mono=_MONO
    )
