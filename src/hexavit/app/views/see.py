"""The view "See": one model and one image."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hexavit.app.markup import bars, figures, note
from hexavit.app.pictures import photographs, read_upload, run_images
from hexavit.app.seeing import Seen, attention_from, depends_on, see
from hexavit.app.sources import Sources
from hexavit.app.views.events import HEAVY, Start, guarded, html, message, message_update
from hexavit.errors import HexavitError
from hexavit.explain import METHODS
from hexavit.images.decode import to_rgb_for_display
from hexavit.images.multichannel import Picture

_THUMB = 160  # pixels
_NO_MAPS = "This model has no map: its tokens are points or a set."
Samples = list[tuple[str, Picture]]


def build(sources: Sources) -> Start:
    """Add the view's widgets to the page that is being built."""
    labels = sources.labels()
    samples = gr.State([])
    picture = gr.State(None, time_to_live=3600)
    seen = gr.State(None, time_to_live=3600)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            model = gr.Dropdown(labels, value=_first(sources, labels), label="Model", filterable=True, elem_id="model")
            weights = message("weights")
            gr.Markdown("**Image**: choose one, or upload your own.")
            gallery = gr.Gallery(
                label="Images to choose from", show_label=False, columns=5, height=140, allow_preview=False,
                object_fit="cover", interactive=False, buttons=[], format="png", elem_id="samples",
            )  # fmt: skip
            upload = gr.File(label="Upload an image", show_label=False, height=130, elem_id="upload")
            error = message("see-error")
            remark = message("see-remark")
        with gr.Column(scale=2, min_width=280):
            gr.Markdown("**Input of the model**: click a pixel.")
            shown = gr.Image(
                label="Input of the model", show_label=False, interactive=False, buttons=[], elem_id="picture",
                type="pil", format="png",
            )  # fmt: skip
        with gr.Column(scale=2, min_width=280):
            gr.Markdown("**Classes** with their certainty")
            classes = html("classes")
            gr.Markdown("**What the prediction depends on**")
            with gr.Row():
                method = gr.Dropdown(list(METHODS), value="gradcam", label="Method", min_width=120, elem_id="method")
                target = gr.Dropdown([], label="Class", min_width=120, elem_id="target")
            cam_error = message("cam-error")
            cam = html("cam")
    gr.Markdown("### Attention\nWhere the pixel looks: the last attention of each stage, mean over heads.")
    with gr.Row():
        x = gr.Number(0, label="x of the pixel (Enter applies)", precision=0, min_width=140, elem_id="pixel-x")
        y = gr.Number(0, label="y of the pixel (Enter applies)", precision=0, min_width=140, elem_id="pixel-y")
    pixel_error = message("pixel-error")
    attention = html("attention")
    gr.Markdown("### Feature maps\nThe first three principal components of each map, as red, green and blue.")
    maps = html("maps")

    def choose_model(label: str, kept: Picture | None) -> tuple[Any, ...]:
        offered, problem = _samples(sources, label)
        image = kept if kept is not None else offered[0][1]
        return (message_update(problem), *look(label, image), offered, [_thumb(each) for each in offered])

    def look(label: str, image: Picture | None) -> tuple[Any, ...]:
        if image is None:
            raise HexavitError("choose or upload an image first")
        found = see(sources.load(label), image)
        kind = "warning" if found.shown.random else "note"
        return (
            image, found, message_update(found.shown.note, kind), found.picture, bars(dict(found.classes)),
            figures(found.maps, "pixels") or note(_NO_MAPS),
        )  # fmt: skip

    def choose_sample(offered: Samples, label: str, index: Any) -> tuple[Any, ...]:
        if not isinstance(index, int) or not 0 <= index < len(offered):
            raise HexavitError("there is no such image")
        return look(label, offered[index][1])

    def take_upload(path: Any, label: str) -> tuple[Any, ...]:
        return (gr.skip(),) * len(results) if path is None else look(label, read_upload(path))

    def look_from(found: Seen | None, column: float | None, row: float | None) -> tuple[str]:
        if found is None or row is None or column is None:
            raise HexavitError("choose an image and a pixel first")
        return (figures(attention_from(found, int(row), int(column)), "large"),)

    def look_from_middle(found: Seen | None) -> tuple[Any, ...]:
        if found is None:
            raise HexavitError("choose an image first")
        row, column = (side // 2 for side in found.size)
        return (column, row, *look_from(found, column, row))

    def explain(found: Seen | None, name: str, index: int | None) -> tuple[str]:
        if found is None:
            raise HexavitError("choose an image first")
        return (figures(depends_on(found, name, index), "large"),)

    def explain_first(found: Seen | None, name: str) -> tuple[Any, ...]:
        if found is None:
            raise HexavitError("choose an image first")
        menu = [(label, index) for (label, _), index in zip(found.classes, found.indices, strict=True)]
        return (gr.update(choices=menu, value=found.indices[0]), *explain(found, name, None))

    def click(found: Seen | None, _: str, where: Any) -> tuple[Any, ...]:
        if found is None:
            raise HexavitError("choose an image first")
        row, column = found.pixel(where[0], where[1])
        return (column, row, *look_from(found, column, row))

    results = [picture, seen, weights, shown, classes, maps]
    last = Start(guarded(explain_first, 2), [seen, method], [cam_error, target, cam], HEAVY)
    after = Start(guarded(look_from_middle, 3), [seen], [pixel_error, x, y, attention], HEAVY, last)
    outputs = [error, remark, *results, samples, gallery]
    start = Start(guarded(choose_model, 9), [model, picture], outputs, HEAVY, after)
    start.listen(model.input)
    start.then(upload.change(guarded(take_upload, 6), [upload, model], [error, *results], **HEAVY))
    start.then(gallery.select(_with_event(guarded(choose_sample, 6)), [samples, model], [error, *results], **HEAVY))
    shown.select(_with_event(guarded(click, 3)), [seen, model], [pixel_error, x, y, attention], **HEAVY)
    for menu in (method, target):
        menu.input(guarded(explain, 1), [seen, method, target], [cam_error, cam], **HEAVY)
    for number in (x, y):
        number.submit(guarded(look_from, 1), [seen, x, y], [pixel_error, attention], **HEAVY)
    return start


def _with_event(function: Any) -> Any:
    """A function of two inputs and what was selected. Gradio finds the argument of an event by its annotation."""

    def run(first: Any, second: Any, event: gr.SelectData) -> Any:
        return function(first, second, event.index)

    return run


def _first(sources: Sources, labels: list[str]) -> str:
    """The first given model, else a small one."""
    return next(iter(sources.models), "cvt_nano" if "cvt_nano" in labels else labels[0])


def _samples(sources: Sources, label: str) -> tuple[Samples, str]:
    """The images to choose from, and why those of the run are not among them."""
    offered: Samples = []
    problem = ""
    if label in sources.runs:
        try:
            offered = run_images(sources.run(label))
        except HexavitError as error:
            problem = f"The images of the run cannot be shown: {error}."
    return [*offered, *photographs().items()], problem


def _thumb(sample: tuple[str, Picture]) -> tuple[Any, str]:
    label, image = sample
    small = to_rgb_for_display(image).copy()
    small.thumbnail((_THUMB, _THUMB))
    return small, label
