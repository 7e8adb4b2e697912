"""timm's registry: one entry point a model, that takes timm's words for what hexavit calls otherwise."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import timm
from timm.models import generate_default_cfgs, register_model

from hexavit.errors import HexavitError, nearest
from hexavit.factory import create_model
from hexavit.models import list_models, pretrained_cfg, resolve

default_cfgs: dict[str, Any] = {}
"""timm's descriptions of the models, where `timm.models.register_model` looks for them."""

_OPTIONS = ("num_classes", "in_chans", "img_size", "features_only", "out_indices", "overrides")
_TIMM_OPTIONS = ("drop_rate", "drop_path_rate", "global_pool", "output_stride")
_registered: dict[str, str] = {}


def register_all() -> list[str]:
    """Register what is not there yet; see `hexavit.integrations.register_with_timm`."""
    for name in list_models():
        if name not in _registered:
            given = f"hexavit_{name}" if timm.is_model(name) else name
            default_cfgs.update(generate_default_cfgs({given: pretrained_cfg(resolve(name))}))
            entry = _entry_point(name, given)
            # timm wants functions that stand in a module under their names.
            setattr(sys.modules[__name__], given, entry)
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
        # timm gives a tag by itself: what is asked for as cvt_13.in1k_384 comes as the string in1k_384.
        tag = f".{pretrained_cfg}" if isinstance(pretrained_cfg, str) else ""
        cfg = None if tag else pretrained_cfg
        return _build(name + tag, pretrained, _described(given, cfg, pretrained_cfg_overlay), options)

    build.__name__ = build.__qualname__ = given
    build.__doc__ = f"hexavit's {name}."
    return build


def _build(name: str, pretrained: bool, described: Mapping[str, Any], options: dict[str, Any]) -> Any:
    unknown = [key for key in options if key not in (*_OPTIONS, *_TIMM_OPTIONS)]
    if unknown:
        raise HexavitError(f"{name} has no option {unknown[0]!r}: {nearest(unknown[0], (*_OPTIONS, *_TIMM_OPTIONS))}")
    if options.get("output_stride", 32) != 32:
        raise HexavitError(f"{name} keeps its strides: output_stride={options['output_stride']} cannot be had")
    architecture = resolve(name)
    edits: dict[str, Any] = {}
    if "drop_rate" in options:
        edits["head.drop"] = options["drop_rate"]
    if "drop_path_rate" in options:
        # CvT drops in its last stage only; a model that drops nowhere yet is made to drop everywhere.
        dropping = [i for i, stage in enumerate(architecture.stages) if stage.drop_path]
        for i in dropping or range(len(architecture.stages)):
            edits[f"stages.{i}.drop_path"] = options["drop_path_rate"]
    own = {key: options[key] for key in _OPTIONS if key in options}
    asked = own.pop("overrides", ())
    both = {**edits, **asked} if isinstance(asked, Mapping) else [*(f"{path}={v}" for path, v in edits.items()), *asked]
    model = create_model(name, pretrained=pretrained, overrides=both, **own)
    if "global_pool" in options and not options.get("features_only"):
        model.reset_classifier(model.num_classes, options["global_pool"])
    model.pretrained_cfg = {**model.pretrained_cfg, **described}
    return model


def _described(given: str, cfg: Any, overlay: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the caller says of the weights, over what the model says of itself."""
    said = {} if cfg is None else dict(cfg) if isinstance(cfg, Mapping) else cfg.to_dict()
    return {"architecture": given, **said, **(overlay or {})}
