"""What a training needs before its first step: data, model, lesson and a run folder that says all of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from torch import nn

import hexavit
from hexavit.data import Source, Split, open_source
from hexavit.data.bad_images import only_readable
from hexavit.data.seeding import seeded
from hexavit.data.split import as_record, from_record, make_split
from hexavit.data.statistics import suited_to
from hexavit.errors import DataError
from hexavit.files import write_json, write_text
from hexavit.images.preprocess import InputSpec
from hexavit.inference.device import pick_device
from hexavit.inference.load_model import start_from
from hexavit.runs.claim import claim, claimable
from hexavit.runs.run_folder import Run
from hexavit.training.config import ConfigError, TrainConfig
from hexavit.training.loop.checkpoints import State, newest_checkpoint
from hexavit.training.loop.optimizer import drop_path_edits, freeze
from hexavit.training.objectives.objective import Lesson, make_lesson

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Ready:
    """A run folder with what its training needs.

    Attributes:
        run: the folder.
        config: the settings.
        source: the data.
        split: of it.
        model: with the weights to start from.
        lesson: what it learns from a batch.
        found: the checkpoint to go on from, and what it holds.
    """

    run: Run
    config: TrainConfig
    source: Source
    split: Split
    model: nn.Module
    lesson: Lesson
    found: tuple[Path, State] | None = None


def new_run(config: TrainConfig, out: str | Path, overwrite: bool, tell: Tell, source: Source | None = None) -> Ready:
    """A run folder taken, once all that can be wrong has been looked for; ``source`` is the data, if it is open.

    Raises:
        HexavitError: one of its kinds, when the folder, the data, the model or the settings are not right.
    """
    if config.precision == "float16" and pick_device(config.device).type == "cpu":
        raise ConfigError("precision float16 is for GPUs: on the CPU take bfloat16 or float32")
    source = source or open_source(config.data)
    split = make_split(source, config.val_fraction, config.split_seed)
    model, input_spec = _make_model(config, source, tell)
    lesson = make_lesson(model, config, source, split, input_spec)
    claimable(out, overwrite=overwrite)  # what takes longer to find out comes after it
    split, skipped = only_readable(source, split, config.on_bad_image, config.workers)
    input_spec = suited_to(source, split["train"], input_spec)
    run = claim(out, overwrite=overwrite)
    write_text(run.architecture, cast("Any", model).architecture.to_json())
    write_json(run.classes_file, source.classes)
    write_json(run.input_file, input_spec.as_dict())
    write_json(run.split_file, as_record(source, split, skipped))
    write_text(run.config, config.to_yaml())  # the last one: with it the folder is a run
    if skipped:
        tell(f"broken images left out: {len(skipped)}, named in {run.split_file}")
    return Ready(run, config, source, split, model, lesson)


def standing_run(run: Run, config: TrainConfig, tell: Tell, micro_batch: int | None = None) -> Ready:
    """A run that stands on disk, with its newest checkpoint.

    Args:
        run: the folder.
        config: its settings.
        tell: called with a sentence that the user should read.
        micro_batch: images at once from here on; by default as many as before.

    Raises:
        DataError: when the data is no longer what it was.
        CheckpointError: when no checkpoint of the run is whole.
    """
    found = newest_checkpoint(run, tell)
    source = open_source(config.data)
    if source.classes != run.classes():
        raise DataError(f"{config.data}: the classes are no longer those with which {run.path} began")
    split = from_record(source, run.split_record())
    with seeded(config.seed, "init"):
        model = run.build()
    if config.start is not None and found is None:
        start_from(model, config.start)
    if found is not None and micro_batch is not None:
        found[1]["micro_batch"] = micro_batch
    lesson = make_lesson(model, config, source, split, run.input_spec())
    return Ready(run, config, source, split, model, lesson, found)


def _make_model(config: TrainConfig, source: Source, tell: Tell) -> tuple[nn.Module, InputSpec]:
    """The model at the size and channels of the settings, else of the data, else its own, with the weights to start
    from; and its input_spec."""
    hints = source.hints
    with seeded(config.seed, "init"):
        model = hexavit.create_model(
            config.model,
            num_classes=len(source.classes),
            in_chans=config.in_chans or hints.channels,
            img_size=config.img_size or hints.size,
            overrides=(*drop_path_edits(config), *config.overrides),
        )
    freeze(model, config.freeze)  # too many are refused here, before a folder is taken
    if config.start is not None:
        tell(str(start_from(model, config.start)))
    spec = InputSpec.of_model(model)
    suited = hints.suited(spec)
    if config.start is not None:  # weights want images as they have seen them
        suited = replace(suited, mean=spec.mean, std=spec.std)
    return model, suited
