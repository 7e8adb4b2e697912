"""What a folder says of its model: architecture, class names and preprocessing, in hexavit's or transformers' files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from hexavit.architecture import Architecture
from hexavit.errors import HexavitError

_PREPROCESSING = ("interpolation", "crop_mode", "crop_pct", "mean", "std")
ACTIVATIONS = {"gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh"}
"""transformers' names of activations that have another name here."""


def class_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The names in a `config.json`: `label_names` of hexavit, `id2label` of transformers; empty if there are none."""
    names = config.get("label_names")
    if names is None and isinstance(config.get("id2label"), dict):
        table = config["id2label"]
        names = [table.get(str(i)) for i in range(len(table))]
        if names == [f"LABEL_{i}" for i in range(len(names))]:
            return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def preprocessing(said: Any) -> dict[str, Any]:
    """The preprocessing in a `pretrained_cfg` or in a run's `input.json`."""
    return {key: said[key] for key in _PREPROCESSING if key in said} if isinstance(said, dict) else {}


def configured(architecture: Architecture, config: Mapping[str, Any], *, eps: bool = True) -> Architecture:
    """The architecture with what transformers' `config.json` holds beyond shapes: heads, activation, eps, image size.

    Args:
        architecture: a model found by shapes.
        config: the content of `config.json`.
        eps: whether the model that it describes uses `layer_norm_eps`.
    """
    edits: list[str] = []
    heads = config.get("num_attention_heads", config.get("num_heads"))
    for i in range(len(architecture.stages)):
        one = heads[i] if isinstance(heads, list) and i < len(heads) else heads
        if isinstance(one, int):
            edits.append(f"stages.{i}.attention.heads={one}")
    act = config.get("hidden_act")
    if isinstance(act, str):
        edits.append(f"stages.*.feedforward.act={ACTIVATIONS.get(act, act)}")
    if eps and isinstance(config.get("layer_norm_eps"), float):
        edits.append(f"norm_eps={config['layer_norm_eps']:g}")
    for edit in edits:
        with suppress(HexavitError):  # what no part has is left to the notes
            architecture = architecture.override([edit])
    size = config.get("image_size")
    sides = (size, size) if isinstance(size, int) else size
    if isinstance(sides, list | tuple) and len(sides) == 2 and all(isinstance(side, int) for side in sides):
        architecture = architecture.with_(img_size=(sides[0], sides[1]))
    return architecture


def image_processor(said: Mapping[str, Any], img_size: tuple[int, int]) -> dict[str, Any]:
    """transformers' `preprocessor_config.json` for a preprocessing, which resizes to size / crop_pct as timm does."""
    height, width = (math.floor(side / said["crop_pct"]) for side in img_size)
    squash = said["crop_mode"] == "squash"
    crop = not squash or said["crop_pct"] < 1
    cropped = {"height": img_size[0], "width": img_size[1]}
    return {
        "image_processor_type": "BitImageProcessor" if crop else "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": height, "width": width} if squash else {"shortest_edge": min(height, width)},
        "resample": 3 if said["interpolation"] == "bicubic" else 2,
        **({"do_center_crop": True, "crop_size": cropped, "do_convert_rgb": True} if crop else {}),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(said["mean"]),
        "image_std": list(said["std"]),
    }


def processor_notes(said: Mapping[str, Any], architecture: Architecture) -> list[str]:
    """What transformers' image processors cannot do as here."""
    height, width = architecture.img_size
    notes = []
    if architecture.in_chans != 3:
        notes.append(f"transformers' pipeline reads RGB images, and this model has {architecture.in_chans} channels")
    if said["crop_mode"] == "center" and height != width:
        notes.append(f"transformers resizes images for a centre crop of {height} x {width} by their shorter side alone")
    return notes
