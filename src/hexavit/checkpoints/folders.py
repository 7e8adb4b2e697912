"""What a folder says of its model: architecture, class names and preprocessing, in hexavit's or transformers' files."""

from __future__ import annotations

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


def configured(architecture: Architecture, config: Mapping[str, Any]) -> Architecture:
    """The architecture with what transformers' `config.json` says beyond shapes: heads, activation, eps, image size."""
    edits: list[str] = []
    heads = config.get("num_attention_heads", config.get("num_heads"))
    for i in range(len(architecture.stages)):
        one = heads[i] if isinstance(heads, list) and i < len(heads) else heads
        if isinstance(one, int):
            edits.append(f"stages.{i}.attention.heads={one}")
    act = config.get("hidden_act")
    if isinstance(act, str):
        edits.append(f"stages.*.feedforward.act={ACTIVATIONS.get(act, act)}")
    eps = config.get("layer_norm_eps")
    if isinstance(eps, float) and config.get("model_type") != "cvt":  # CvT's does not take effect in transformers
        edits.append(f"norm_eps={eps:g}")
    for edit in edits:
        with suppress(HexavitError):  # what no part has is left to the notes
            architecture = architecture.override([edit])
    size = config.get("image_size")
    sides = (size, size) if isinstance(size, int) else size
    if isinstance(sides, list | tuple) and len(sides) == 2 and all(isinstance(side, int) for side in sides):
        architecture = architecture.with_(img_size=(sides[0], sides[1]))
    return architecture


def image_processor(said: Mapping[str, Any], img_size: tuple[int, int]) -> dict[str, Any]:
    """transformers' `preprocessor_config.json` for a preprocessing."""
    height, width = img_size
    size = {"height": height, "width": width}
    crop = said["crop_mode"] == "center"
    shorter = {"shortest_edge": int(min(img_size) / said["crop_pct"])}
    return {
        "image_processor_type": "BitImageProcessor" if crop else "ViTImageProcessor",
        "do_resize": True,
        "size": shorter if crop else size,
        "resample": 3 if said["interpolation"] == "bicubic" else 2,
        **({"do_center_crop": True, "crop_size": size, "do_convert_rgb": True} if crop else {}),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(said["mean"]),
        "image_std": list(said["std"]),
    }
