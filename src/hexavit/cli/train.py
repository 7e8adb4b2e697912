"""Train a model on images and write a run folder. Settings that are not given are chosen automatically from the data
and the machine, and printed with the reason. A setting on the command line takes precedence over the recipe."""

from __future__ import annotations

import argparse
import os
import re
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from hexavit.cli._parser import Parser, UsageError, add_overrides
from hexavit.training.config import TrainConfig, read_recipe, settings

if TYPE_CHECKING:
    from hexavit.data import Source

SECTIONS = {
    "data": "data in_chans img_size val_fraction split_seed train_images on_bad_image workers",
    "model": "model overrides start entry prefix freeze",
    "optimisation": "epochs steps patience batch_size repeats optimizer optimizer_options lr lr_batch head_lr "
    "layer_decay weight_decay clip_grad ema ema_warmup seed",
    "learning-rate schedule": "schedule warmup_epochs warmup_steps warmup_lr min_lr cooldown_epochs decay_epochs "
    "decay_rate",
    "augmentation and regularisation": "augment magnitude policy color_jitter interpolation erasing crop_pct mixup "
    "cutmix balance label_smoothing drop_path",
    "distillation and token labels": "teacher teacher_cache distillation distillation_alpha distillation_tau "
    "label_maps swapped_boxes token_loss_weight mix_token",
    "machine": "device devices shard micro_batch precision head_precision grad_checkpointing compile",
    "logging and checkpoints": "save_every wandb",
}
"""Sections of the help, with their settings; a setting that is in none is listed among the options."""


def add_arguments(parser: Parser) -> None:
    from hexavit.training.auto_config.rules import AUTOMATIC_SETTINGS

    # With SUPPRESS, the parsed arguments hold only what was given.
    common: dict[str, Any] = {"default": argparse.SUPPRESS}
    parser.add_argument("images", metavar="DATA", nargs="?", help="data set; same as --data", **common)
    parser.add_argument(
        "--out", metavar="FOLDER", help="run folder; by default runs/DATA-MODEL or the next free name", **common
    )
    parser.add_argument(
        "--config",
        metavar="RECIPE",
        help="name in `hexavit recipes`, or YAML file, such as a run's config.yaml",
        **common,
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue the run in --out; a finished one with more --epochs", **common
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the run in --out", **common)
    parser.add_argument(
        "--find-lr", action="store_true", help="instead of a run, 100 steps at rising rates, to suggest --lr", **common
    )
    known = settings()
    listed = {name: section for section, names in SECTIONS.items() for name in names.split()}
    for name in sorted(known, key=lambda each: list(listed).index(each) if each in listed else -1):
        setting, options = known[name], dict[str, Any](common)
        if name == "overrides":
            add_overrides(parser, section=listed[name], **options)
            continue
        flag, text = "from" if name == "start" else name.replace("_", "-"), setting.text
        if name in AUTOMATIC_SETTINGS:
            text = f"{text.partition('; by default')[0]}; by default chosen automatically"
        elif isinstance(setting.default, str | int | float) and not isinstance(setting.default, bool):
            text += f" (default: {setting.default})"
        options |= {"type": _without_none(setting.kind), "help": text, "dest": name}
        if options["type"] is str:
            options |= {"metavar": "SOURCE" if name == "start" else name.upper()}
        elif options["type"] == tuple[str, ...]:
            options |= {"type": str, "action": "append", "metavar": "NAME=VALUE"}
            options["help"] = f"{text}; may be repeated"
        elif options["type"] == tuple[int, int]:
            options |= {"type": int, "nargs": "+", "metavar": "PIXELS"}
        elif options["type"] is bool:
            options |= {"nargs": "?"}  # the option alone means true
        parser.add_argument("--" + flag, section=listed.get(name), **options)


def run(args: Namespace) -> None:
    given = dict(vars(args))
    out, recipe = given.pop("out", None), given.pop("config", None)
    resumes, overwrite, finds = (given.pop(name, False) for name in ("resume", "overwrite", "find_lr"))
    _take_data(given)
    given = {**(read_recipe(recipe) if recipe else {}), **given}
    if not finds and given.get("lr") is None and (given.get("optimizer", "adamw") != "adamw" or given.get("lr_batch")):
        raise UsageError(
            "the automatic learning rate is of adamw and for the batch: give --lr, or neither --optimizer "
            "nor --lr-batch"
        )
    if finds and (resumes or out is not None or overwrite):
        raise UsageError("--find-lr writes no run: leave --out, --resume and --overwrite out")
    if resumes and (out is None or overwrite):
        raise UsageError("--resume needs --out, the run folder to continue, and excludes --overwrite")

    from hexavit.data import open_source
    from hexavit.runs.run_folder import check_run_folder, next_free_path
    from hexavit.training.trainer import resume, train

    if resumes:
        trained = resume(out, given=given)
    else:
        TrainConfig.from_mapping({"model": "", **given})  # report invalid settings before reading the data
        if out is not None and _is_first_process():
            check_run_folder(out, overwrite=overwrite)
        source = open_source(given["data"])
        config = _completed(given, source)
        if finds:
            _print_suggestion(config, source)
            return
        out = out or next_free_path(Path("runs", default_name(config)))
        trained = train(config, out, overwrite=overwrite, source=source)
    metrics = trained.metrics
    epochs = f"epoch {metrics['best_epoch']} of {metrics['epochs']}"
    score = f"mAP {metrics['map']:.2%} (all classes right {metrics['accuracy']:.2%})" if "map" in metrics else ""
    score = score or f"accuracy {metrics['accuracy']:.2%}"
    print(f"validation {score} in {epochs}, the best; run folder {trained.run.path}")


def _print_suggestion(config: TrainConfig, source: Source) -> None:
    from hexavit.training.lr_finder import find_learning_rate

    found = find_learning_rate(config, source=source)
    print("learning rate  loss (moving average)")
    for number in range(0, len(found.rates), max(1, len(found.rates) // 12)):
        print(f"{found.rates[number]:13.1e}  {found.losses[number]:.4f}")
    print(f"the loss falls fastest at --lr {found.suggestion:g}, for a batch of {config.batch_size} images")


def _take_data(given: dict[str, Any]) -> None:
    """Move the positional DATA to the setting ``data``."""
    images = given.pop("images", None)
    if images is not None and given.setdefault("data", images) != images:
        raise UsageError(f"hexavit train takes one data set, not {images!r} and {given['data']!r}")


def _completed(given: dict[str, Any], source: Source) -> TrainConfig:
    """The settings, with the missing ones chosen automatically; prints those and the reasons."""
    from hexavit.training.auto_config.rules import INSPECTED_FOR, choose_settings

    if given.keys() >= INSPECTED_FOR:
        return TrainConfig.from_mapping(given)

    from hexavit.training.auto_config.facts import gather_facts
    from hexavit.training.setup import check_settings

    config, reasons = choose_settings(gather_facts(given, source), given)
    if _is_first_process():
        check_settings(config, source)  # before it prints reasons for a run that cannot start
        print("\n".join(("settings chosen automatically; override any with the option of the same name:", *reasons)))
    return config


def _is_first_process() -> bool:
    """Whether this process has rank 0. Only rank 0 checks the run folder and prints."""
    return all(os.environ.get(name, "0") in ("", "0") for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def default_name(config: TrainConfig) -> str:
    """Name of a run folder after its data and its model."""
    place, _, folder = config.data.partition(":")
    stem = place if folder else Path(config.data).resolve().stem
    return re.sub(r"[^\w.-]+", "_", stem) + "-" + config.model


def _without_none(kind: Any) -> Any:
    """The type in an optional type: on the command line, None is the option left out."""
    kinds = [each for each in get_args(kind) if each is not type(None)]
    return kinds[0] if type(None) in get_args(kind) else kind
