"""Training from first to last: data, model and folder made ready, Lightning's loop run, the result written."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import lightning as L
from rich.console import Console
from torch import nn

import hexavit
from hexavit.errors import DataError, RunError
from hexavit.inference.device import pick_device
from hexavit.inference.opening import start_from
from hexavit.inference.preprocess import InputSpec
from hexavit.inference.run import Run
from hexavit.training.augment import training_transform
from hexavit.training.checkpoints import WholeCheckpointIO
from hexavit.training.claim import claim, claimable, unfinished
from hexavit.training.config import TrainConfig, checked_value, read_recipe
from hexavit.training.data import Source, Split, open_source
from hexavit.training.data.loading import Images, choose_workers, make_loader
from hexavit.training.data.readable import only_readable
from hexavit.training.data.split import as_record, from_record, make_split
from hexavit.training.data.statistics import suited_to
from hexavit.training.files import write_json, write_text
from hexavit.training.label_maps import MappedImages
from hexavit.training.lessons import Lesson, make_lesson
from hexavit.training.module import Classifier
from hexavit.training.optimisation import drop_path_edits, freeze
from hexavit.training.progress import make_progress
from hexavit.training.quiet import quiet_lightning
from hexavit.training.randomness import seeded
from hexavit.training.recorder import Recorder, Row
from hexavit.training.timing import TimeLeft, offer_smaller
from hexavit.training.tracking import check_trackers, make_trackers, telling

_PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


@dataclass(frozen=True)
class Trained:
    """The outcome of a training.

    Attributes:
        run: the folder.
        metrics: what ``metrics.json`` holds: ``accuracy``, ``loss`` (and ``top5``) of the best epoch on the held-out
            images, ``best_epoch``, ``last_accuracy``, ``epochs``, ``steps``, ``parameters``, ``train_images``,
            ``held_out_images``, ``images_per_second`` and ``seconds`` (of the training alone).
    """

    run: Run
    metrics: dict[str, float]


def train(config: TrainConfig, out: str | Path, *, overwrite: bool = False, console: Console | None = None) -> Trained:
    """Train a model and leave a run folder. The same config gives the same metrics on the same machine.

    Args:
        config: the settings.
        out: the run folder, made if need be.
        overwrite: replace a run that stands there.
        console: where progress is shown; by default the standard output.

    Raises:
        HexavitError: one of its kinds, when the folder, the data, the model or the settings are not right.
    """
    check_trackers(config)
    source = open_source(config.data)
    split = make_split(source, config.val_fraction, config.split_seed)
    shown = console or Console()
    model, input_spec = _make_model(config, source, shown)
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
        told = f"broken images left out: {len(skipped)}, named in {run.split_file}"
        shown.print(told, highlight=False, markup=False, soft_wrap=True)
    return _fit(run, config, source, split, model, lesson, shown)


def resume(out: str | Path, *, given: Mapping[str, Any] | None = None, console: Console | None = None) -> Trained:
    """Continue an interrupted training from its last epoch; the end is that of one never interrupted.

    Args:
        out: the run folder.
        given: settings that the user repeats; each must be that of the run.
        console: where progress is shown; by default the standard output.

    Raises:
        RunError: when there is no unfinished run, or a given setting is another than the run's.
        DataError: when the data is no longer what it was.
    """
    run = unfinished(out)
    config = TrainConfig.from_mapping(read_recipe(run.config))
    for name, value in (given or {}).items():
        if checked_value(name, value) != getattr(config, name):
            raise RunError(f"{run.path}: this run has {name} {getattr(config, name)}, so it cannot go on with {value}")
    source = open_source(config.data)
    if source.classes != run.classes():
        raise DataError(f"{config.data}: the classes are no longer those with which {run.path} began")
    split = from_record(source, run.split_record())
    with seeded(config.seed, "init"):
        model = run.build()
    if config.start is not None and not run.checkpoint.is_file():
        start_from(model, config.start)
    lesson = make_lesson(model, config, source, split, run.input_spec())
    return _fit(run, config, source, split, model, lesson, console or Console())


def _make_model(config: TrainConfig, source: Source, console: Console) -> tuple[nn.Module, InputSpec]:
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
        console.print(str(start_from(model, config.start)), highlight=False, markup=False, soft_wrap=True)
    spec = InputSpec.of_model(model)
    suited = hints.suited(spec)
    if config.start is not None:  # weights want images as they have seen them
        suited = replace(suited, mean=spec.mean, std=spec.std)
    return model, suited


def _fit(
    run: Run, config: TrainConfig, source: Source, split: Split, model: nn.Module, lesson: Lesson, console: Console
) -> Trained:
    """Run the loop from its checkpoint, if there is one, to the last epoch, and write the metrics."""
    spec = run.input_spec()
    augment = source.hints.augment if config.augment == "auto" else config.augment
    strength: dict[str, Any] = {"magnitude": config.magnitude, "erasing": config.erasing}
    varied = Images(source, split["train"], training_transform(spec, augment, **strength), config.seed)
    if lesson.maps is not None:
        varied = MappedImages(varied, lesson.maps, spec, augment, **strength)
    plain = Images(source, split["val"], spec.transform(), config.seed)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    shape = " x ".join(map(str, (spec.channels, *spec.size)))
    for line in (
        f"{config.model}: {parameters / 1e6:.2f} M parameters, {shape} pixels in, {len(source.classes)} classes out",
        f"{config.data}: {len(varied)} images to train on, {len(plain)} held out",
        f"{run.path}: the run folder",
    ):
        console.print(line, highlight=False, soft_wrap=True)
    progress = make_progress(console)
    trackers = make_trackers(run, config)
    recorder = Recorder(run, telling(*(each.log for each in trackers), progress.report))
    left = TimeLeft(console, len(plain) / len(varied), offer_smaller(run, config, model))
    callbacks = [progress, left, *trackers, recorder]
    try:
        _loop(run, config, Classifier(model, config, len(source.classes), lesson), varied, plain, callbacks)
    except KeyboardInterrupt:
        if run.checkpoint.is_file():
            again = f"hexavit train --resume --out {shlex.quote(str(run.path))}"
            console.print(f"stopped in epoch {len(recorder.history) + 1}; to go on from its beginning: {again}")
        raise
    metrics = _summary(recorder, parameters, len(varied), len(plain))
    write_json(run.metrics, metrics)
    return Trained(run, metrics)


def _loop(
    run: Run, config: TrainConfig, module: Classifier, varied: Images, plain: Images, callbacks: list[L.Callback]
) -> None:
    device = pick_device(config.device)
    loading: dict[str, Any] = {
        "batch_size": config.batch_size,
        "workers": choose_workers(config.workers, varied.source),
        "pin_memory": device.type == "cuda",
    }
    with quiet_lightning(), seeded(config.seed, "training"):
        trainer = L.Trainer(
            accelerator=device.type,
            devices=1,
            precision=cast("Any", _PRECISIONS[config.precision]),
            max_epochs=config.epochs,
            gradient_clip_val=config.clip_grad or None,
            deterministic="warn",  # an operation without a deterministic kernel is named, not refused
            callbacks=callbacks,
            plugins=[WholeCheckpointIO()],
            default_root_dir=run.path,
            logger=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
        trainer.fit(
            module,
            make_loader(varied, training=True, **loading),
            make_loader(plain, training=False, **loading),
            ckpt_path=run.checkpoint if run.checkpoint.is_file() else None,
            weights_only=True,
        )


def _summary(recorder: Recorder, parameters: int, train_images: int, held_out_images: int) -> Row:
    best, last = recorder.best, recorder.history[-1]
    seconds = sum(row["seconds"] for row in recorder.history)
    images = sum(row["seconds"] * row["images_per_second"] for row in recorder.history)
    return {
        **{name: best[name] for name in ("accuracy", "top5", "loss") if name in best},
        "best_epoch": best["epoch"],
        "last_accuracy": last["accuracy"],
        "epochs": last["epoch"],
        "steps": last["step"],
        "parameters": parameters,
        "train_images": train_images,
        "held_out_images": held_out_images,
        "images_per_second": images / seconds,
        "seconds": seconds,
    }
