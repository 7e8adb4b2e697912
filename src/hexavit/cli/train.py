"""Train a model on images and leave a run folder. What is not given is chosen from the data and the machine, and told;
every setting may come from a recipe, the command line wins."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from hexavit.cli._parser import Parser, UsageError, add_overrides, as_dict
from hexavit.training.config import TrainConfig, read_recipe, settings

if TYPE_CHECKING:
    from hexavit.data import Source


def add_arguments(parser: Parser) -> None:
    from hexavit.training.auto_config.rules import CHOSEN

    parser.add_argument("images", metavar="DATA", nargs="?", type=str, default=None, help="the same as --data DATA")
    parser.add_argument("--out", type=str, default=None, help="the run folder; by default runs/DATA-MODEL, or the next")
    parser.add_argument("--config", metavar="RECIPE", type=str, default=None, help="a YAML file of settings")
    parser.add_argument("--resume", action="store_true", help="continue the interrupted run in --out")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in --out")
    for setting in settings().values():
        if setting.name == "overrides":
            add_overrides(parser)
            continue
        options: dict[str, Any] = {"type": _without_none(setting.kind), "help": setting.text}
        if options["type"] == tuple[int, int]:
            options |= {"type": int, "nargs": "+", "metavar": "PIXELS"}
        if options["type"] is bool:
            options |= {"nargs": "?", "const": True}  # alone it is a yes
        if setting.name in CHOSEN:
            options |= {"default": None, "help": f"{setting.text.partition('; by default')[0]}; by default chosen"}
        elif setting.default is not MISSING:
            options["default"] = setting.default
        flag = "from" if setting.name == "start" else setting.name.replace("_", "-")
        parser.add_argument("--" + flag, dest=setting.name, **options)


def run(parser: Parser, arguments: Sequence[str]) -> None:
    given = as_dict(parser.parse_args(arguments, defaults=False))
    out, recipe = given.pop("out", None), given.pop("config", None)
    resumes, overwrite = given.pop("resume", False), given.pop("overwrite", False)
    _take_data(given)
    given = {**(read_recipe(recipe) if recipe else {}), **given}
    if resumes and (out is None or overwrite):
        raise UsageError("--resume needs --out, the run folder to go on with, and goes without --overwrite")

    from hexavit.data import open_source
    from hexavit.runs.claim import claimable, next_free
    from hexavit.training.trainer import resume, train

    if resumes:
        trained = resume(out, given=given)
    else:
        TrainConfig.from_mapping({"model": "", **given})  # what is wrong in itself is told before anything is looked at
        if out is not None and _leads():
            claimable(out, overwrite=overwrite)
        source = open_source(given["data"])
        config = _chosen(given, source)
        out = out or next_free(Path("runs", default_name(config)))
        trained = train(config, out, overwrite=overwrite, source=source)
    print(f"held-out accuracy {trained.metrics['accuracy']:.2%}, in {trained.run.path}")


def _take_data(given: dict[str, Any]) -> None:
    """The data may stand alone, as most that is given to a command does."""
    images = given.pop("images", None)
    if images is not None and given.setdefault("data", images) != images:
        raise UsageError(f"hexavit train takes one data set, not {images!r} and {given['data']!r}")


def _chosen(given: dict[str, Any], source: Source) -> TrainConfig:
    """The settings with what was not given chosen, and why."""
    from hexavit.training.auto_config.rules import CHOSEN, choose

    if given.keys() >= CHOSEN:
        return TrainConfig.from_mapping(given)

    from hexavit.training.auto_config.facts import look

    config, reasons = choose(look(given, source), given)
    if _leads():
        print("\n".join(("chosen, and to be had otherwise by the options of these names:", *reasons)))
    return config


def _leads() -> bool:
    """Whether this is the only process of a training, or the first: one of those that follow says nothing, and finds
    the folder taken."""
    return all(os.environ.get(name, "0") in ("", "0") for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def default_name(config: TrainConfig) -> str:
    """What a run is called that nobody named: after its data and its model."""
    place, _, folder = config.data.partition(":")
    stem = place if folder else Path(config.data).resolve().stem
    return re.sub(r"[^\w.-]+", "_", stem) + "-" + config.model


def _without_none(kind: Any) -> Any:
    """The type behind an optional one: on the command line, to say nothing is to leave the option out."""
    kinds = [each for each in get_args(kind) if each is not type(None)]
    return kinds[0] if type(None) in get_args(kind) else kind
