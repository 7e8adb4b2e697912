"""timm's registry: an entry point for each model, which takes timm's options."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import timm
import torch
from timm.models import generate_default_cfgs, register_model, register_notrace_module

from hexavit.architecture import Architecture
from hexavit.checkpoints import load_checkpoint
from hexavit.errors import HexavitError, nearest
from hexavit.factory import create_model
from hexavit.models import list_models, pretrained_cfg, resolve
from hexavit.network.backbone import Backbone, FeatureBackbone
from hexavit.network.stage import StageModule
from hexavit.parts.heads import Head
from hexavit.parts.registry import options as options_of

default_cfgs: dict[str, Any] = {}
"""timm's descriptions of the models, where `timm.models.register_model` looks for them."""

_OPTIONS = ("num_classes", "in_chans", "img_size", "overrides", "drop_rate", "drop_path_rate")
_FEATURE_OPTIONS = ("features_only", "out_indices", "feature_cls")
_TIMM_OPTIONS = ("global_pool", "output_stride", "attn_drop_rate", "proj_drop_rate", "device", "dtype")
_SIZE_OPTIONS = ("dynamic_img_size", "strict_img_size")
"""Accepted without effect: every model takes images of other sizes."""
_FEATURE_CLASSES = ("list", "getter", "hook")
"""timm's classes that give a list of maps; a `FeatureBackbone` takes their place."""
_DROPS = {
    "attn_drop_rate": (("attention", "attn_drop"),),
    "proj_drop_rate": (("attention", "proj_drop"), ("feedforward", "drop")),
}
"""Options of parts that timm's rates set."""
_registered: dict[str, str] = {}


class UnknownOptionError(HexavitError, TypeError):
    """An option that an entry point does not have."""


def register_all() -> list[str]:
    """Register the models that are not registered yet; see `hexavit.integrations.register_with_timm`."""
    for module in (StageModule, Head):
        register_notrace_module(module)  # nodes of the graphs that torch.fx traces
    for name in list_models():
        if name not in _registered:
            given = f"hexavit_{name}" if timm.is_model(name) else name
            default_cfgs.update(generate_default_cfgs({given: pretrained_cfg(resolve(name))}))
            entry = _entry_point(name, given)
            setattr(sys.modules[__name__], given, entry)  # timm requires functions that are attributes of a module
            register_model(entry)
            _registered[name] = given
    return list(_registered.values())


def _entry_point(name: str, given: str) -> Callable[..., Any]:
    def build(
        pretrained: bool = False,
        pretrained_cfg: Any = None,
        pretrained_cfg_overlay: Mapping[str, Any] | None = None,
        cache_dir: str | None = None,
        **options: Any,
    ) -> Any:
        # timm passes the tag of "cvt_13.in1k_384" as pretrained_cfg="in1k_384".
        tag = f".{pretrained_cfg}" if isinstance(pretrained_cfg, str) else ""
        cfg = None if tag else pretrained_cfg
        if pretrained and cache_dir is not None:
            raise HexavitError(f"{name}: cache_dir is not supported, set the environment variable HF_HOME")
        return _build(name + tag, pretrained, _cfg(given, cfg, pretrained_cfg_overlay), options)

    build.__name__ = build.__qualname__ = given
    build.__doc__ = f"hexavit's {name}."
    return build


def _build(name: str, pretrained: bool, cfg: dict[str, Any], options: dict[str, Any]) -> Any:
    known = (*_OPTIONS, *_FEATURE_OPTIONS, *_TIMM_OPTIONS, *_SIZE_OPTIONS)
    unknown = [key for key in options if key not in known]
    if unknown:
        raise UnknownOptionError(f"{name} has no option {unknown[0]!r}: {nearest(unknown[0], known)}")
    feature_cls = str(options.get("feature_cls", "list")).lower()
    if feature_cls not in _FEATURE_CLASSES:
        raise HexavitError(f"feature_cls is {', '.join(map(repr, _FEATURE_CLASSES))}, not {feature_cls!r}")
    file, weights = cfg.pop("file", None), cfg.pop("state_dict", None)
    if file and weights is None:
        weights = file
    own = {key: options[key] for key in _OPTIONS if key in options}
    own["overrides"] = _with_drops(resolve(name), options, own.get("overrides", ()))
    device = options.get("device")
    with nullcontext() if device is None else torch.device(device):
        model: Backbone = create_model(name, pretrained=pretrained and weights is None, **own)
    if pretrained and weights is not None:
        load_checkpoint(model, weights, adapt=True)
    model.to(dtype=options.get("dtype"))
    stride = options.get("output_stride", 32)  # 32 is timm's default
    strides = [entry["reduction"] for entry in model.feature_info if entry["reduction"] is not None]
    if stride not in (32, max(strides, default=32)):
        raise HexavitError(f"{name} has the output stride {max(strides)}, and output_stride={stride} is not supported")
    if len(model.head.classifiers) > 1:  # type: ignore[arg-type]  # a Head
        model.set_distilled_training(False)  # as timm's models start
    if "global_pool" in options and not options.get("features_only"):
        model.reset_classifier(model.num_classes, options["global_pool"])
    model.pretrained_cfg = {**model.pretrained_cfg, **cfg}
    return FeatureBackbone(model, options.get("out_indices")) if options.get("features_only") else model


def _with_drops(architecture: Architecture, options: Mapping[str, Any], overrides: Any) -> Any:
    """The overrides, preceded by edits for timm's rates of dropout inside the blocks."""
    edits: dict[str, Any] = {}
    for rate in filter(options.get, _DROPS):
        found = {
            f"{path.partition('.cycle')[0]}.{option}": options[rate]
            for path, kind, part in architecture.places()
            for of_kind, option in _DROPS[rate]
            if kind == of_kind and option in options_of(kind, part.name)
        }
        if not found:
            raise HexavitError(f"{architecture.name} has no part with dropout for {rate}")
        edits |= found
    if isinstance(overrides, Mapping):
        return {**edits, **overrides}
    return [*(f"{path}={value}" for path, value in edits.items()), *overrides]


def _cfg(given: str, cfg: Any, overlay: Mapping[str, Any] | None) -> dict[str, Any]:
    """The caller's description of the weights, which has precedence over the model's."""
    stated = {} if cfg is None else dict(cfg) if isinstance(cfg, Mapping) else cfg.to_dict()
    return {"architecture": given, **stated, **(overlay or {})}
