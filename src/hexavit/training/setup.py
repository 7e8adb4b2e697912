"""Preparation of a run: data, model, objective and run folder, checked before the first step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from torch import nn

import hexavit
from hexavit.data import Digits, Source, Split, open_source
from hexavit.data.augment import Kind, training_transform
from hexavit.data.bad_images import only_readable
from hexavit.data.published import names_set
from hexavit.data.seeding import seeded
from hexavit.data.source import describe_unused
from hexavit.data.split import as_record, from_record, make_split
from hexavit.data.statistics import suited_to
from hexavit.files import write_json, write_text
from hexavit.images.decode import WHITE, printable
from hexavit.images.preprocess import InputSpec
from hexavit.inference.device import pick_device
from hexavit.inference.load_model import load_starting_weights
from hexavit.models.registry import resolve
from hexavit.runs.run_folder import Run, check_run_folder, create_run_folder
from hexavit.teachers.sources import absolute_source, check_other_run
from hexavit.training.config import ConfigError, TrainConfig
from hexavit.training.limits import check_fits
from hexavit.training.loop.checkpoints import Checkpoint, newest_checkpoint
from hexavit.training.loop.optimizer import freeze
from hexavit.training.objectives.objective import Objective, make_objective

Tell = Callable[[str], None]
_FEW = 0.5  # share of a model below which fine-tuning rates hardly apply


@dataclass(frozen=True)
class PreparedRun:
    """A run folder with all that its training needs.

    Attributes:
        run: the run folder.
        config: the settings.
        source: the data.
        split: its training, validation and test images.
        model: the model with its initial weights.
        objective: computes the loss.
        checkpoint: the checkpoint to continue from, if any.
    """

    run: Run
    config: TrainConfig
    source: Source
    split: Split
    model: nn.Module
    objective: Objective
    checkpoint: Checkpoint | None = None


def prepare_run(
    config: TrainConfig, out: str | Path, overwrite: bool, tell: Tell, source: Source | None = None
) -> PreparedRun:
    """Check settings, data and model, then create the run folder.

    Args:
        config: the settings.
        out: the run folder.
        overwrite: replace a run that is there.
        tell: called with sentences for the user.
        source: the data of ``config``, if it is open already.

    Raises:
        HexavitError: the folder, the data, the model or a setting is not valid.
    """
    if config.teacher is not None:
        check_other_run(config.teacher, out)
    source = source or open_source(config.data)
    split = check_settings(config, source)
    with seeded(config.seed, "init"):
        model = hexavit.create_model(config.model, **_model_options(config, source))
    freeze(model, config.freeze)  # raises for too many stages before the folder is created
    if config.start is not None:
        report = load_starting_weights(model, config.start, entry=config.entry, prefix=config.prefix)
        tell(str(report))
        if report.share < _FEW:
            tell(
                f"warning: only {report.share:.0%} of the model's weights were loaded; the rest is trained from scratch"
            )
    input_spec = _input_spec(config, source, model)
    training_transform(input_spec, augment_kind(config, source), **augmentation(config))  # raises for a wrong policy
    objective = make_objective(model, config, source, split, input_spec)
    check_run_folder(out, overwrite=overwrite)  # before the checks that take longer
    split, skipped = only_readable(source, split, config.on_bad_image, config.workers)
    input_spec = suited_to(source, split["train"], input_spec)
    run = create_run_folder(out, overwrite=overwrite)
    write_text(run.architecture, cast("Any", model).architecture.to_json())
    write_json(run.classes_file, source.classes)
    write_json(run.input_file, input_spec.as_dict())
    write_json(run.split_file, as_record(source, split, skipped))
    write_text(run.config, absolute_paths(config).to_yaml())  # last: it makes the folder a run
    if source.unused:
        tell(f"not used: {describe_unused(source.unused)}, such as {printable(source.unused[0])}")
    if input_spec.white != WHITE:
        tell(f"16-bit images use values up to {input_spec.white:,}: this value is white")
    if skipped:
        tell(f"broken images left out: {len(skipped)}, named in {run.split_file}")
    return PreparedRun(run, config, source, split, model, objective)


def check_settings(config: TrainConfig, source: Source) -> Split:
    """Check the settings against the data and the machine; returns the split of the data.

    Raises:
        HexavitError: a setting is not valid for them, or the run does not fit into memory.
    """
    if config.precision == "float16" and pick_device(config.device).type == "cpu":
        raise ConfigError("precision float16 is for GPUs: on the CPU use bfloat16 or float32")
    split = make_split(source, config.val_fraction, config.split_seed, config.train_images)
    check_fits(config, resolve(config.model, **_model_options(config, source)), len(split["train"]))
    return split


def open_run(run: Run, config: TrainConfig, tell: Tell) -> PreparedRun:
    """An existing run with its newest checkpoint.

    Args:
        run: the run folder.
        config: its settings.
        tell: called with sentences for the user.

    Raises:
        DataError: the data has changed.
        CheckpointError: all checkpoints of the run are damaged.
    """
    checkpoint = newest_checkpoint(run, tell)
    record = run.split_record()
    source = open_source(config.data)
    source.set_classes(run.classes())
    split = from_record(source, record)
    with seeded(config.seed, "init"):
        model = run.build()
    if config.start is not None and checkpoint is None:
        load_starting_weights(model, config.start, entry=config.entry, prefix=config.prefix)
    objective = make_objective(model, config, source, split, run.input_spec())
    return PreparedRun(run, config, source, split, model, objective, checkpoint)


def absolute_paths(config: TrainConfig) -> TrainConfig:
    """The settings with absolute paths, so that a run can be resumed from any working directory."""
    paths: dict[str, Any] = {
        name: str(Path(value).absolute())
        for name in ("start", "label_maps")
        if (value := getattr(config, name)) is not None and Path(value).exists()
    }
    if config.teacher is not None:
        paths["teacher"] = absolute_source(config.teacher)
    if config.teacher_cache is not None:
        paths["teacher_cache"] = str(Path(config.teacher_cache).absolute())
    if names_set(config.data):
        name, _, folder = config.data.partition(":")
        paths["data"] = f"{name}:{Path(folder).absolute()}"
    elif config.data != Digits.name:
        paths["data"] = str(Path(config.data).absolute())
    return replace(config, **paths)


def _model_options(config: TrainConfig, source: Source) -> dict[str, Any]:
    """Arguments of ``create_model``: the settings, else what suits the data, else the model's own."""
    return {
        "num_classes": len(source.classes),
        "in_chans": config.in_chans or source.hints.channels,
        "img_size": config.img_size or source.hints.size,
        "overrides": (*drop_path_edits(config), *config.overrides),
    }


def _input_spec(config: TrainConfig, source: Source, model: nn.Module) -> InputSpec:
    """How images become the model's input: normalised as the weights expect it, else as suits the data."""
    spec = InputSpec.of_model(model)
    suited = source.hints.suited(spec)
    suited = suited if config.start is None else replace(suited, mean=spec.mean, std=spec.std)
    return suited if config.crop_pct is None else replace(suited, crop_pct=config.crop_pct)


def augment_kind(config: TrainConfig, source: Source) -> Kind:
    """The kind of augmentation: the setting, or what suits the data."""
    return source.hints.augment if config.augment == "auto" else config.augment


def augmentation(config: TrainConfig) -> dict[str, Any]:
    """Arguments of ``training_transform`` besides the kind."""
    names = ("magnitude", "policy", "color_jitter", "interpolation", "erasing")
    return {name: getattr(config, name) for name in names}


def drop_path_edits(config: TrainConfig) -> tuple[str, ...]:
    """The setting ``drop_path`` as overrides: of the stages that have drop path, else of all."""
    if config.drop_path is None:
        return ()
    stages = resolve(config.model).stages
    dropping = [number for number, stage in enumerate(stages) if stage.drop_path] or range(len(stages))
    return tuple(f"stages.{number}.drop_path={config.drop_path}" for number in dropping)
