"""A model ready to be used, whatever it was opened from: a run, a saved folder, a published name, a file of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

import hexavit
from hexavit.checkpoints import LoadReport, inspect_checkpoint
from hexavit.errors import HexavitError, RunError, nearest
from hexavit.hub import load_published
from hexavit.hub.saved_folder import is_pretrained
from hexavit.images.preprocess import InputSpec
from hexavit.models import find_weight, list_models
from hexavit.models.imagenet import imagenet_classes, imagenet_numbers, is_imagenet
from hexavit.runs.run_folder import Run, Weights

HUB = "hf-hub:"
"""What stands before OWNER/NAME where a path could be meant, as in timm."""


@dataclass(frozen=True)
class Ready:
    """A model with all that its use needs.

    Attributes:
        model: in evaluation mode, on the CPU.
        classes: names, in the order of the logits; none for a model without a head, which has features alone.
        input_spec: how an image becomes its input.
        weights: which they are: `best` or `last` of a run, a published name, a file.
        synonyms: other names of classes, by which data may call them, with their numbers.
        split: what was held out when it was trained, where that is known.
        notes: sentences that the user should read.
    """

    model: nn.Module
    classes: tuple[str, ...]
    input_spec: InputSpec
    weights: str
    synonyms: Mapping[str, int] = field(default_factory=dict)
    split: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of_run(cls, run: Run, weights: Weights = "best") -> Ready:
        """The model of a run.

        Raises:
            RunError: a file of the run is missing or damaged.
        """
        classes, spec, model = run.classes(), run.input_spec(), run.model(weights)
        return cls(model, classes, spec, weights, split=run.split_record())


Subject = Run | Ready | str | Path
"""What can be judged and asked: a run, its folder, a model's name, or what is ready."""


def open_model(
    source: str | Path,
    *,
    model: str | None = None,
    weights: Weights = "best",
    untrained: bool = False,
    headless: bool = False,
) -> Ready:
    """Open what a user names.

    Args:
        source: a run folder; a folder of `save_pretrained`, or one or a file of any weights together with `model`; a
            model's name, with a tag of its published weights or not; `hf-hub:OWNER/NAME`.
        model: of which model the weights in a file are.
        weights: of a run, those of the best or of the last epoch.
        untrained: use a model although its answers come from weights that nothing was learned with.
        headless: take weights without a head, too, as features are all that is wanted.

    Raises:
        HexavitError: one of its kinds, when there is no such thing, it cannot be read, or was never trained.
    """
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
            return _ready(hexavit.from_pretrained(path), str(path), headless=headless)
        return Ready.of_run(Run.open(path), weights)
    if path.is_file():
        raise HexavitError(f"{source}: of which model are these weights? --model NAME says it{_guessed(path)}")
    name = str(source)
    if name.partition(".")[0] in list_models():
        return _published(name, untrained, headless)
    if name.startswith(HUB):
        return _ready(hexavit.from_pretrained(name.removeprefix(HUB)), name, headless=headless)
    raise RunError(f"{name}: there is no such run folder, file or model{_near(name)}")


def made_ready(subject: Subject, weights: Weights = "best", *, headless: bool = False) -> Ready:
    """What is ready as it is; of a run the weights asked for; and of a name or path what :func:`open_model` gives.

    Raises:
        HexavitError: one of its kinds, when it cannot be opened.
    """
    if isinstance(subject, Ready):
        return subject
    if isinstance(subject, Run):
        return Ready.of_run(subject, weights)
    return open_model(subject, weights=weights, headless=headless)


def start_from(model: nn.Module, source: str | Path) -> LoadReport:
    """Give a model the weights to start a training from: all that fit it, its head when the classes are as many, and
    their preprocessing where it is known.

    Args:
        model: what `create_model` gives.
        source: a run folder (its best weights), a folder of `save_pretrained`, a file or folder of any known layout, or
            a model's name with a tag or not, whose published weights are fetched.

    Returns:
        The `LoadReport`: print it, for it says what stayed at its start.

    Raises:
        HexavitError: there is no such thing, it cannot be fetched or read, or nothing of it fits.
    """
    path = Path(source)
    if path.exists():
        run = Run.open(path) if Run(path).config.is_file() else None
        report = hexavit.load_checkpoint(model, run.weights("best") if run else path, adapt=True, partial=True)
        if run is not None:
            _take_preprocessing(model, run.input_spec().as_dict())
        elif is_pretrained(path):
            _take_preprocessing(model, hexavit.from_pretrained(path).pretrained_cfg)
        return report
    if str(source).partition(".")[0] not in list_models():
        raise HexavitError(f"{source}: there is no such run folder, file or model to start from{_near(str(source))}")
    return load_published(model, str(source))


def _take_preprocessing(model: Any, given: Mapping[str, Any]) -> None:
    """Weights want images as they were trained on them; statistics of other channels say nothing."""
    keys = ["interpolation", "crop_pct", "crop_mode"]
    if len(given["mean"]) == model.architecture.in_chans:
        keys += ["mean", "std"]
    model.pretrained_cfg = {**model.pretrained_cfg, **{key: given[key] for key in keys}}


def _near(name: str) -> str:
    """The nearest model's name, if one is near."""
    hint = nearest(name, list_models())
    return f": {hint}" if hint.startswith("did") else ""


def _published(name: str, untrained: bool, headless: bool) -> Ready:
    """A named model with its weights; at its start only when that was asked for."""
    weight = find_weight(name)
    if weight is not None and not untrained:
        if weight.num_classes == 0 and not headless:
            raise HexavitError(f"{name}: the weights {weight.tag} have no head, so they name no classes")
        return _ready(hexavit.create_model(name, pretrained=True).eval(), name, headless=headless)
    if not untrained:
        raise HexavitError(
            f"{name} was never trained, as it lists no published weights, so its answers would mean nothing: name a "
            "run, a folder or a file of weights, or ask for it with --untrained"
        )
    note = f"{name} is untrained: its answers mean nothing"
    return _ready(hexavit.create_model(name).eval(), "untrained", notes=(note,))


def _from_file(path: Path, name: str, headless: bool) -> Ready:
    """A named model with the weights of a file, of the classes and channels that the file has."""
    facts = inspect_checkpoint(path)
    size = None if "." in name else facts.img_size
    made = hexavit.create_model(name, num_classes=facts.classes, in_chans=facts.in_chans or None, img_size=size)
    report = hexavit.load_checkpoint(made, path)
    return _ready(made.eval(), str(path), notes=report.notes, headless=headless)


def _guessed(path: Path) -> str:
    """What a file's tensors say of it, for the sentence that asks."""
    facts = inspect_checkpoint(path)
    return f" (its tensors are those of {facts.model})" if facts.model else ""


def _ready(model: Any, weights: str, *, notes: tuple[str, ...] = (), headless: bool = False) -> Ready:
    """The names of the classes are the model's own, else ImageNet's where they are as many, else their numbers."""
    count = model.num_classes
    if count == 0 and not headless:
        raise HexavitError(f"{weights}: this model has no head, so it names no classes")
    names = model.pretrained_cfg.get("label_names")
    synonyms: Mapping[str, int] = {}
    if names is None and is_imagenet(count):
        names, synonyms = imagenet_classes(count), {number: i for i, number in enumerate(imagenet_numbers(count))}
    classes = tuple(names) if names is not None else tuple(f"class {i}" for i in range(count))
    return Ready(model, classes, InputSpec.of_model(model), weights, synonyms, notes=notes)
