"""Loads a teacher: a model of hexavit, timm or torchvision, with its classes and preprocessing."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from hexavit.errors import HexavitError, nearest
from hexavit.images.preprocess import InputSpec
from hexavit.inference.load_model import LoadedModel, load_model
from hexavit.models.imagenet import class_names, class_numbers

LIBRARIES = ("timm", "torchvision")
_FOLDER = "local-dir:"
_ELSEWHERE = (_FOLDER, "hf-hub:", "hf_hub:")  # timm's own prefixes of names
_RESIZES = ("bilinear", "bicubic")  # those that torchvision applies to tensors


def load_any_model(source: str | Path) -> LoadedModel:
    """Load a trained classifier, on the CPU.

    Args:
        source: one of

            - a run folder, a folder of `save_pretrained`, a file of weights of a known model, a model name or
              `hf-hub:OWNER/NAME`, as :func:`hexavit.inference.load_model` takes them.
            - `timm:NAME`, with or without a tag; NAME may be `local-dir:FOLDER` or `hf-hub:OWNER/NAME`, as in timm.
            - `torchvision:NAME`, or `torchvision:NAME.WEIGHTS` for other weights than torchvision's default.
            - `timm:NAME@FILE` or `torchvision:NAME@FILE`: the model with the weights of a file. Its classes have no
              names, and are matched with those of data by index.

    Raises:
        HexavitError: the source does not exist or cannot be loaded.
    """
    parsed = _Source.parse(str(source))
    if parsed.library:
        return replace((_of_timm if parsed.library == "timm" else _of_torchvision)(parsed), source=str(source))
    model = None
    if Path(source).is_file():
        from hexavit.checkpoints import inspect_checkpoint

        model = inspect_checkpoint(Path(source)).model
        if model is None:
            raise HexavitError(f"{source}: the model of these weights is unknown: pass a run folder or a saved folder")
    return load_model(source, model=model)


def absolute_source(source: str) -> str:
    """The source with an absolute path, if it has a path that exists."""
    parsed = _Source.parse(source)
    if not parsed.path or not Path(parsed.path).exists():
        return source
    return source.removesuffix(parsed.path) + str(Path(parsed.path).absolute())


def check_other_run(source: str, out: str | Path) -> None:
    """Check that a teacher does not come from the run folder of its student.

    Raises:
        HexavitError: it does.
    """
    path, folder = _Source.parse(source).path, os.path.realpath(out)
    if os.path.exists(path) and f"{os.path.realpath(path)}{os.sep}".startswith(f"{folder}{os.sep}"):
        raise HexavitError(f"{source}: a run cannot be its own teacher: write the student to another run folder")


class _Source(NamedTuple):
    """A source in its parts.

    Attributes:
        text: the whole.
        library: `timm`, `torchvision`, or empty for hexavit.
        name: name of the model in the library.
        path: the file or folder that the source names; empty for published weights of a library.
    """

    text: str
    library: str
    name: str
    path: str

    @classmethod
    def parse(cls, text: str) -> _Source:
        library, colon, name = text.partition(":")
        if library not in LIBRARIES or not colon:
            return cls(text, "", "", text)
        if name.startswith(_ELSEWHERE):  # an @ is then part of the name
            return cls(text, library, name, name.removeprefix(_FOLDER) if name.startswith(_FOLDER) else "")
        name, _, path = name.partition("@")
        return cls(text, library, name, path)


def _of_timm(source: _Source) -> LoadedModel:
    import timm
    from timm.data import resolve_model_data_config

    name, elsewhere = source.name, source.name.startswith(_ELSEWHERE)
    if not elsewhere and not timm.is_model(name.partition(".")[0]):
        raise HexavitError(f"{source.text}: timm has no such model: {nearest(name, timm.list_models())}")
    if source.path and not elsewhere:
        model = _with_weights(source, lambda **given: timm.create_model(name, **given), channels=True)
    else:
        model = _downloaded(source, lambda: timm.create_model(name, pretrained=True))
    config = cast("Any", resolve_model_data_config)(model)
    _, *size = config["input_size"]  # of published weights, whose channels may be others than this model's
    channels = _first_convolution(model)[1]
    mean, std = (tuple(config[key])[:1] * channels if channels != 3 else tuple(config[key]) for key in ("mean", "std"))
    resize = config["interpolation"] if config["interpolation"] in _RESIZES else "bicubic"
    spec = InputSpec((size[0], size[1]), channels, mean, std, resize, config["crop_pct"], config["crop_mode"])
    named = None if source.path and not elsewhere else cast("Any", model).pretrained_cfg.get("label_names")
    return _loaded(source, model, cast("Any", model).num_classes, spec, named)


def _of_torchvision(source: _Source) -> LoadedModel:
    import torchvision.models as zoo

    name, _, tag = source.name.partition(".")
    known = zoo.list_models(module=zoo)
    if name not in known:
        raise HexavitError(f"{source.text}: torchvision has no such classifier: {nearest(name, known)}")
    kinds: Any = zoo.get_model_weights(name)
    if tag and tag not in kinds.__members__:
        raise HexavitError(
            f"{source.text}: torchvision has no such weights of {name}: {nearest(tag, kinds.__members__)}"
        )
    weights: Any = kinds[tag or "DEFAULT"]
    preset = weights.transforms()
    (side,), (resized,) = preset.crop_size, preset.resize_size
    resize = preset.interpolation.value
    spec = InputSpec((side, side), 3, tuple(preset.mean), tuple(preset.std), resize, side / resized, "center")
    if source.path:
        quick = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        model = _with_weights(source, lambda **given: zoo.get_model(name, **quick, **given))
        return _loaded(source, model, _classifier(model)[1], spec, None)
    model = _downloaded(source, lambda: zoo.get_model(name, weights=weights))
    return _loaded(source, model, len(weights.meta["categories"]), spec, None)


def _loaded(source: _Source, model: nn.Module, count: int, spec: InputSpec, names: Sequence[str] | None) -> LoadedModel:
    classes = class_names(count, names)
    return LoadedModel(classes, spec, source.text, class_numbers(classes), model=model.eval())


def _downloaded(source: _Source, build: Callable[[], nn.Module]) -> nn.Module:
    try:
        return build()
    except Exception as error:  # a library of models raises many types: no weights, no network, a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise HexavitError(f"{source.text}: {source.library} cannot load this model ({reason[:200]})") from error


def _with_weights(source: _Source, build: Callable[..., nn.Module], *, channels: bool = False) -> nn.Module:
    """A model of a library with the weights of a file, and with its number of classes and (`channels`) of channels."""
    from hexavit.checkpoints.reader import read_contents, read_tensor
    from hexavit.checkpoints.state_dict import find_weights

    contents = read_contents(source.path)
    stored = find_weights(contents).tensors
    with torch.device("meta"):
        plan = build()
    given: dict[str, int] = {}
    if (known := stored.get(f"{_classifier(plan)[0]}.weight")) is not None:
        given["num_classes"] = known.shape[0]
    if channels and (known := stored.get(f"{_first_convolution(plan)[0]}.weight")) is not None:
        given["in_chans"] = known.shape[1]
    model = build(**given)
    try:
        model.load_state_dict({key: read_tensor(contents, key, each) for key, each in stored.items()})
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise HexavitError(
            f"{source.path}: these weights do not fit {source.library}:{source.name} ({reason})"
        ) from error
    return model


def _first_convolution(model: nn.Module) -> tuple[str, int]:
    """Name and number of input channels of the first convolution; 3 channels if there is none."""
    found = ((name, each.in_channels) for name, each in model.named_modules() if isinstance(each, nn.Conv2d))
    return next(found, ("", 3))


def _classifier(model: nn.Module) -> tuple[str, int]:
    """Name and number of outputs of the last linear, which may be a convolution of 1 x 1."""
    found = [(name, each) for name, each in model.named_modules() if isinstance(each, nn.Linear | nn.Conv2d)]
    name, last = found[-1]
    return name, int(last.out_features if isinstance(last, nn.Linear) else last.out_channels)
