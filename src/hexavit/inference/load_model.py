"""Loads a trained model from a run, a saved folder, a file of weights, a model name or the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from torch import nn

import hexavit
from hexavit._deprecated import renamed
from hexavit.checkpoints import LoadReport, inspect_checkpoint
from hexavit.errors import HexavitError, RunError, nearest
from hexavit.hub import load_published
from hexavit.hub.saved_folder import is_pretrained
from hexavit.images.preprocess import InputSpec
from hexavit.inference.model_info import ModelInfo
from hexavit.models import find_weight, list_models, model_entry
from hexavit.models.imagenet import class_names, class_numbers
from hexavit.runs.run_folder import Run, Weights

_SAME = 0.9  # share of a model that weights of an equivalent model of another family (ViT, DeiT) fill
HUB = "hf-hub:"
"""Prefix of OWNER/NAME on the Hugging Face Hub, as in timm."""

__getattr__ = renamed(
    __name__,
    {
        "Ready": f"{__name__}.LoadedModel",
        "open_model": f"{__name__}.load_model",
        "start_from": f"{__name__}.load_starting_weights",
    },
)


@dataclass(frozen=True)
class LoadedModel(ModelInfo):
    """A model with its classes and preprocessing.

    Attributes:
        model: in evaluation mode, on the CPU.
    """

    model: nn.Module = field(kw_only=True)

    def __post_init__(self) -> None:
        described = getattr(self.model, "architecture", None)
        object.__setattr__(self, "architecture_name", str(getattr(described, "name", "")))

    @classmethod
    def of_run(cls, run: Run, weights: Weights = "best") -> LoadedModel:
        """The model of a run.

        Raises:
            RunError: a file of the run is missing or damaged.
        """
        classes, spec, model = run.classes(), run.input_spec(), run.model(weights)
        thresholds = run.thresholds(weights)
        split, source = run.split_record(), str(run.path)
        return cls(classes, spec, weights, split=split, source=source, thresholds=thresholds, model=model)

    @property
    def info(self) -> ModelInfo:
        """The same facts without the model."""
        return ModelInfo(**{each.name: getattr(self, each.name) for each in fields(ModelInfo)})


ModelSource = Run | LoadedModel | str | Path
"""What functions take as a model: a run, its folder, a model name, or a loaded model."""


def load_model(
    source: str | Path,
    *,
    model: str | None = None,
    weights: Weights = "best",
    untrained: bool = False,
    headless: bool = False,
) -> LoadedModel:
    """Load a trained model.

    Args:
        source: a run folder; a folder of `save_pretrained`; a file or folder of weights together with `model`; a model
            name with or without the tag of its published weights; or `hf-hub:OWNER/NAME`.
        model: name of the model that the weights in a file belong to.
        weights: of a run, those of the best or of the last epoch.
        untrained: allow a model with random weights.
        headless: allow weights without a classifier, if only features are needed.

    Raises:
        HexavitError: the source does not exist, cannot be read, or has no trained weights.
    """
    return replace(_load(source, model, weights, untrained, headless), source=str(source))


def _load(source: str | Path, model: str | None, weights: Weights, untrained: bool, headless: bool) -> LoadedModel:
    path = Path(source)
    if weights != "best" and not Run(path).config.is_file():
        raise HexavitError(f"{source}: only a run has {weights} weights")
    if model is not None:
        if not path.exists():
            raise HexavitError(f"{source}: there is no such file of weights")
        if Run(path).config.is_file():
            raise HexavitError(f"{source}: this run knows its model; --model is for a file of weights")
        return _from_file(path, model, headless)
    if path.is_dir():
        if is_pretrained(path) and not Run(path).config.is_file():
            return _with_classes(hexavit.from_pretrained(path), str(path), headless=headless)
        return LoadedModel.of_run(Run.open(path), weights)
    if path.is_file():
        raise HexavitError(f"{source}: these weights do not name their model; pass --model NAME{_detected(path)}")
    name = str(source)
    if name.partition(".")[0] in list_models():
        return _published(name, untrained, headless)
    if name.startswith(HUB):
        return _with_classes(hexavit.from_pretrained(name.removeprefix(HUB)), name, headless=headless)
    raise RunError(f"{name}: there is no such run folder, file or model{_near(name)}")


def as_loaded(subject: ModelSource, weights: Weights = "best", *, headless: bool = False) -> LoadedModel:
    """Load a model unless it is loaded already.

    Args:
        subject: a loaded model, a run, or what :func:`load_model` takes.
        weights: of a run, those of the best or of the last epoch.
        headless: allow weights without a classifier.

    Raises:
        HexavitError: the model cannot be loaded.
    """
    if isinstance(subject, LoadedModel):
        return subject
    if isinstance(subject, Run):
        return LoadedModel.of_run(subject, weights)
    return load_model(subject, weights=weights, headless=headless)


def load_starting_weights(
    model: nn.Module, source: str | Path, *, entry: str | None = None, prefix: str | None = None
) -> LoadReport:
    """Load weights to start a training run from: all tensors that fit, and their preprocessing.

    The head is loaded if the number of classes is the same.

    Args:
        model: a model of `create_model`.
        source: a run folder (its best weights), a folder of `save_pretrained`, a file or folder of any known layout, or
            a model name with or without a tag, whose published weights are downloaded.
        entry: of a file, the entry that holds the weights.
        prefix: of a file, the prefix of the keys to read.

    Returns:
        The `LoadReport`; it names the tensors that were not loaded.

    Raises:
        HexavitError: the source does not exist, cannot be downloaded or read, or too little of it fits.
    """
    path = Path(source)
    if (entry is not None or prefix is not None) and not path.is_file():
        raise HexavitError(f"{source}: an entry or a prefix is chosen in a file of weights, which this is not")
    if path.exists():
        run = Run.open(path) if Run(path).config.is_file() else None
        file = run.weights("best") if run else path
        report = hexavit.load_checkpoint(model, file, entry=entry, prefix=prefix, adapt=True, partial=True)
        if run is not None:
            _take_preprocessing(model, run.input_spec().as_dict())
        elif is_pretrained(path):
            _take_preprocessing(model, hexavit.from_pretrained(path).pretrained_cfg)
        _check_family(model, path, report)
        return report
    if str(source).partition(".")[0] not in list_models():
        raise HexavitError(f"{source}: there is no such run folder, file or model to start from{_near(str(source))}")
    return load_published(model, str(source))


def _check_family(model: Any, folder: Path, report: LoadReport) -> None:
    """Reject weights of another family that fit in part because names and widths coincide.

    Raises:
        HexavitError: the folder's architecture is of another family, and less than 90 % of the model was loaded.
    """
    file = folder / "architecture.json"
    if not file.is_file() or report.share >= _SAME:
        return
    there = hexavit.Architecture.from_json(file.read_text(encoding="utf-8")).name
    here = model.architecture.name
    if {here, there} <= set(list_models()) and model_entry(here).family != model_entry(there).family:
        raise HexavitError(
            f"{folder}: these weights are of {there}, and only {report.share:.0%} of {here} would be loaded; "
            f"use --model {there}, or train without --from"
        )


def _take_preprocessing(model: Any, given: Mapping[str, Any]) -> None:
    """Use the preprocessing of the weights; mean and std only if the number of channels is the same."""
    keys = ["interpolation", "crop_pct", "crop_mode"]
    if len(given["mean"]) == model.architecture.in_chans:
        keys += ["mean", "std"]
    model.pretrained_cfg = {**model.pretrained_cfg, **{key: given[key] for key in keys}}


def _near(name: str) -> str:
    """A hint with the most similar model name, if one is similar."""
    hint = nearest(name, list_models())
    return f": {hint}" if hint.startswith("did") else ""


def _published(name: str, untrained: bool, headless: bool) -> LoadedModel:
    """A named model with its published weights, or with random weights if `untrained`."""
    weight = find_weight(name)
    if weight is not None and not untrained:
        if weight.num_classes == 0 and not headless:
            raise HexavitError(f"{name}: the weights {weight.tag} have no head, so they name no classes")
        return _with_classes(hexavit.create_model(name, pretrained=True).eval(), name, headless=headless)
    if not untrained:
        raise HexavitError(
            f"{name} was never trained, as it lists no published weights, so its predictions would be random: give a "
            "run, a folder or a file of weights, or pass --untrained"
        )
    note = f"{name} is untrained: its predictions are random"
    return _with_classes(hexavit.create_model(name).eval(), "untrained", notes=(note,))


def _from_file(path: Path, name: str, headless: bool) -> LoadedModel:
    """A named model with the weights of a file, and with its number of classes and channels."""
    facts = inspect_checkpoint(path)
    size = None if "." in name else facts.img_size
    made = hexavit.create_model(name, num_classes=facts.classes, in_chans=facts.in_chans or None, img_size=size)
    report = hexavit.load_checkpoint(made, path)
    return _with_classes(made.eval(), str(path), notes=report.notes, headless=headless)


def _detected(path: Path) -> str:
    """A hint with the model that the tensors of a file belong to, if it is detected."""
    facts = inspect_checkpoint(path)
    return f" (its tensors are those of {facts.model})" if facts.model else ""


def _with_classes(model: Any, weights: str, *, notes: tuple[str, ...] = (), headless: bool = False) -> LoadedModel:
    count = model.num_classes
    if count == 0 and not headless:
        raise HexavitError(f"{weights}: this model has no head, so it names no classes")
    classes = class_names(count, model.pretrained_cfg.get("label_names"))
    spec, thresholds = InputSpec.of_model(model), model.pretrained_cfg.get("thresholds")
    numbers = class_numbers(classes)
    return LoadedModel(classes, spec, weights, numbers, notes=notes, thresholds=thresholds, model=model)
