"""Model cards: the six-column table, cost and metrics, preprocessing, licence and use, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hexavit.architecture import Architecture
from hexavit.models import Entry, list_models, model_entry
from hexavit.network.backbone import Backbone
from hexavit.profiling import profile

MARK = "<!-- Written by hexavit"
"""Start of the comment in a card that may be overwritten."""
_SHOWN = 20


def model_card(
    model: Backbone,
    cfg: Mapping[str, Any],
    class_names: Sequence[str] | None,
    metrics: Mapping[str, float],
) -> str:
    """The model card as Markdown, with the metadata header of the Hugging Face hub.

    Args:
        model: the model.
        cfg: its `pretrained_cfg`, with preprocessing and licence.
        class_names: in the order of the logits; None if they are not known.
        metrics: figures of these weights by name.
    """
    architecture = model.architecture
    entry = model_entry(architecture.name) if architecture.name in list_models() else None
    parts = [
        _header(cfg),
        f"{MARK}: delete this line to keep your own version of the card. -->",
        f"# {architecture.name}",
        _summary(architecture, entry),
        architecture.table("markdown"),
        "## Figures",
        _figures(model, metrics),
        "## Images",
        _images(cfg),
    ]
    if class_names is not None:
        more = f" and {len(class_names) - _SHOWN} more, in `config.json`" if len(class_names) > _SHOWN else ""
        parts += ["## Classes", f"{len(class_names)}: {', '.join(class_names[:_SHOWN])}{more}."]
    parts += ["## Licence", _licence(cfg), "## Use", _use()]
    return "\n\n".join(parts) + "\n"


def _header(cfg: Mapping[str, Any]) -> str:
    import yaml

    words: dict[str, Any] = {"library_name": "hexavit", "pipeline_tag": "image-classification"}
    if cfg.get("license"):
        words["license"] = cfg["license"]
    words["tags"] = ["hexavit", "vision-transformer", "image-classification"]
    if cfg.get("hf_hub_id"):
        words["base_model"] = cfg["hf_hub_id"]
    return f"---\n{yaml.safe_dump(words, sort_keys=False)}---"


def _summary(architecture: Architecture, entry: Entry | None) -> str:
    height, width = architecture.img_size
    paper = f" Paper: {entry.paper}." if entry else ""
    return (
        f"{entry.summary if entry else 'A vision transformer'}, built for images of {height} x {width} pixels with "
        f"{architecture.in_chans} channels, with {architecture.num_classes or 'no'} classes.{paper} Its parts, one row "
        "per stage:"
    )


def _figures(model: Backbone, metrics: Mapping[str, float]) -> str:
    counted = profile(model)
    rows = [("parameters", f"{counted.parameters:,}"), ("multiply-adds for an image", f"{counted.macs:,}")]
    rows += [(name, f"{value:.4g}") for name, value in metrics.items()]
    return "\n".join(["| figure | value |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)])


def _images(cfg: Mapping[str, Any]) -> str:
    rows = [(key.replace("_", " "), cfg[key]) for key in ("interpolation", "crop_mode", "crop_pct", "mean", "std")]
    texts = [(name, ", ".join(f"{x:.4g}" for x in v) if isinstance(v, tuple | list) else str(v)) for name, v in rows]
    return "\n".join(["| preprocessing | value |", "| --- | --- |", *(f"| {name} | {v} |" for name, v in texts)])


def _licence(cfg: Mapping[str, Any]) -> str:
    started = f" The weights started from {cfg['hf_hub_id']}." if cfg.get("hf_hub_id") else ""
    stated = f"The weights: {cfg['license']}." if cfg.get("license") else "No licence of the weights is stated."
    return stated + started


def _use() -> str:
    return (
        '```python\nimport hexavit\n\nmodel = hexavit.from_pretrained("OWNER/NAME")  # or this folder\n```\n\n'
        "```\nhexavit predict FOLDER IMAGES\n```"
    )
