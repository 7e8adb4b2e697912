"""Pictures of maps over images, and a page of them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hexavit.explain.attention import Array, AttentionMap, Head, Query, attention_maps
from hexavit.explain.methods import attribute
from hexavit.explain.reading import attention_parts, backbone_of
from hexavit.images.contact_sheet import Cell, contact_sheet, input_as_picture
from hexavit.images.preprocess import InputSpec

COLOURS = "viridis"
"""Matplotlib's name of the colours."""


class Explained(NamedTuple):
    """The maps of an image.

    Attributes:
        name: of the image.
        prediction: class and probability as text; empty without a classifier.
        picture: the model's input, then the maps over it.
        maps: (name, values) of each map, at the pixels of the input.
    """

    name: str
    prediction: str
    picture: Image.Image
    maps: list[tuple[str, Array]]


def overlay(picture: Image.Image, values: Array, strength: float = 0.6) -> Image.Image:
    """A map over a picture, from dark blue (least) to yellow (most).

    Args:
        picture: the model's input.
        values: (H, W) of the same size; negative ones are drawn as 0.
        strength: share of the map's colours.
    """
    from matplotlib import colormaps

    scaled = np.clip(values, 0, None)
    scaled = scaled / max(float(scaled.max()), 1e-12)
    colours = (colormaps[COLOURS](scaled)[..., :3] * 255).astype(np.uint8)
    below = picture.convert("L").convert("RGB").resize((values.shape[1], values.shape[0]))
    return Image.blend(below, Image.fromarray(colours), strength)


def explain_image(
    model: Any,
    image: Tensor,
    spec: InputSpec,
    *,
    name: str = "",
    methods: Sequence[str] = ("attention",),
    stage: int | None = None,
    block: int | None = None,
    head: Head = "mean",
    query: Query = "auto",
    target: int | None = None,
    classes: Sequence[str] = (),
) -> Explained:
    """Maps of one image, with a picture of them.

    Args:
        model: a model of `hexavit.create_model`, in evaluation mode.
        image: (C, H, W), preprocessed.
        spec: its preprocessing.
        name: of the image.
        methods: names of `METHODS`. `attention` shows the last block of each stage unless a stage or a block is given.
        stage: as `attention_maps`, and the stage whose map the class activation methods read.
        block: as `attention_maps`.
        head: as `attention_maps`.
        query: as `attention_maps`.
        target: number of the class; None for the predicted one.
        classes: names of the classes.
    """
    picture = input_as_picture(image, spec)
    prediction = ""
    if backbone_of(model).num_classes:
        with torch.no_grad():
            best = backbone_of(model)(image[None]).float().softmax(dim=1)[0].max(dim=0)
        number = int(best.indices)
        target = number if target is None else target
        prediction = f"{classes[number] if classes else number} ({float(best.values):.0%})"
    maps: list[tuple[str, Array]] = []
    for method in methods:
        if method == "attention":
            maps += _attention(model, image, stage, block, head, query)
        else:
            found = attribute(model, image, method, target=target, stage=stage)
            of_class = "" if found.target is None else f": {classes[found.target] if classes else found.target}"
            maps.append((f"{method}{of_class}", found.pixels()))
    cells = [Cell(picture, (name, prediction)), *(Cell(overlay(picture, values), (text, "")) for text, values in maps)]
    return Explained(name, prediction, contact_sheet(cells, min(len(cells), 6), side=224), maps)


def _attention(
    model: Any, image: Tensor, stage: int | None, block: int | None, head: Head, query: Query
) -> list[tuple[str, Array]]:
    found = attention_maps(model, image, stage=stage, block=block, head=head, query=query)
    if stage is None and block is None:
        last = {part.stage: part.path for part in attention_parts(model)}
        found = [each for each in found if each.path in last.values()]
    return [
        (_title(each, head), values) for each in found for head, values in zip(each.heads, each.pixels(), strict=True)
    ]


def _title(found: AttentionMap, head: int | str) -> str:
    query = found.query if isinstance(found.query, str) else f"x={found.query[0]}, y={found.query[1]}"
    which = "mean of heads" if head == "mean" else f"head {head}"
    inside = " ".join(found.path.split(".")[4:-1])  # of the block: a lower resolution, or the words of patches
    return f"stage {found.stage}, block {found.block}{f' ({inside})' if inside else ''}; {query}; {which}"


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 88rem; margin: 2rem auto; padding: 0 1rem; }
:root { color-scheme: light dark; }
img { max-width: 100%; height: auto; background: white; }
figure { margin: 1.5rem 0; }
"""


def page(title: str, images: Sequence[Explained], notes: Sequence[str] = ()) -> str:
    """One HTML document with all pictures inside; it loads nothing from outside."""
    figures = [
        f"<figure><figcaption>{escape(each.name)} {escape(each.prediction)}</figcaption>"
        f'<img alt="{escape(", ".join(name for name, _ in each.maps), quote=True)}" src="{_embedded(each.picture)}">'
        "</figure>"
        for each in images
    ]
    remarks = [f"<p>{escape(note)}</p>" for note in notes]
    legend = "<p>Colours run from dark blue (least) to yellow (most) in each map.</p>"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    body = [f"<h1>{escape(title)}</h1>", *remarks, legend, *figures]
    document = [f'<html lang="en"><head>{head}<style>{_STYLE}</style></head><body>', *body, "</body></html>\n"]
    return "\n".join(["<!doctype html>", *document])


def _embedded(picture: Image.Image) -> str:
    file = BytesIO()
    picture.save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}"
