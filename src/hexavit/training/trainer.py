"""Training from first to last: data, model and folder made ready, Lightning's loop run, the result written."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

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
from hexavit.training.batch_norm import sync_batch_norms
from hexavit.training.checkpoints import State, WholeCheckpointIO, newest_checkpoint
from hexavit.training.claim import claim, claimable, unfinished
from hexavit.training.config import TrainConfig, checked_value, read_recipe
from hexavit.training.curves import draw_curves
from hexavit.training.data import Source, Split, open_source
from hexavit.training.data.loading import Images, choose_workers, make_loader, stop_workers
from hexavit.training.data.readable import only_readable
from hexavit.training.data.split import as_record, from_record, make_split
from hexavit.training.files import write_json, write_text
from hexavit.training.leaving import Leave
from hexavit.training.module import Classifier, NotFiniteError
from hexavit.training.nonfinite import keep_batch
from hexavit.training.position import Position
from hexavit.training.processes import Launch, own_processes
from hexavit.training.progress import make_progress
from hexavit.training.quiet import quiet_lightning
from hexavit.training.randomness import seeded
from hexavit.training.recorder import Recorder, Row

_PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}


@dataclass(frozen=True)
class Trained:
    """The outcome of a training.

    Attributes:
        run: the folder.
        metrics: what ``metrics.json`` holds: ``accuracy``, ``loss`` (and ``top5``) of the best epoch on the held-out
            images, ``best_epoch``, ``last_accuracy``, ``epochs``, ``steps``, ``parameters``, ``train_images``,
            ``held_out_images``, ``micro_batch`` (images that a device took at once), ``images_per_second`` and
            ``seconds`` (of the training alone).
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
    launch = Launch.find(config.devices)
    if launch.rank > 0:
        _follow(launch, config)
    shown = console or Console()
    with launch.leading(lambda: str(Path(out).resolve())):
        source = open_source(config.data)
        split = make_split(source, config.val_fraction, config.split_seed)
        model, input_spec = _make_model(config, source, shown)
        claimable(out, overwrite=overwrite)  # what takes longer to find out comes after it
        split, skipped = only_readable(source, split, config.on_bad_image, config.workers)
        run = claim(out, overwrite=overwrite)
        write_text(run.architecture, cast("Any", model).architecture.to_json())
        write_json(run.classes_file, source.classes)
        write_json(run.input_file, input_spec.as_dict())
        write_json(run.split_file, as_record(source, split, skipped))
        write_text(run.config, config.to_yaml())  # the last one: with it the folder is a run
    if skipped:
        _tell(shown, f"broken images left out: {len(skipped)}, named in {run.split_file}")
    return _fit(run, config, source, split, model, shown, launch)


_FREE = {"devices", "workers", "micro_batch", "save_every"}
"""Settings that a run may change when it goes on: they have no say in what is learnt."""


def resume(out: str | Path, *, given: Mapping[str, Any] | None = None, console: Console | None = None) -> Trained:
    """Continue an interrupted training from its last checkpoint; the end is that of one never interrupted.

    Args:
        out: the run folder.
        given: settings that the user repeats; each must be that of the run, but for ``devices``, ``workers``,
            ``micro_batch`` and ``save_every``, which may change.
        console: where progress is shown; by default the standard output.

    Raises:
        RunError: when there is no unfinished run, or a given setting is another than the run's.
        DataError: when the data is no longer what it was.
        CheckpointError: when no checkpoint of the run is whole.
    """
    run = unfinished(out)
    config = TrainConfig.from_mapping(read_recipe(run.config))
    changed = {name: checked_value(name, value) for name, value in (given or {}).items()}
    for name, value in changed.items():
        if name not in _FREE and value != getattr(config, name):
            raise RunError(f"{run.path}: this run has {name} {getattr(config, name)}, so it cannot go on with {value}")
    config = replace(config, **changed)
    micro_batch = config.micro_batch if "micro_batch" in changed else None
    launch = Launch.find(config.devices, binding="devices" in changed)
    if launch.rank > 0:
        _follow(launch, config, micro_batch)
    shown = console or Console()
    with launch.leading(lambda: str(run.path.resolve())):
        opened = _open_run(run, config, partial(_tell, shown), micro_batch)
    return _fit(run, config, *opened[:3], shown, launch, opened[3])


def _open_run(
    run: Run, config: TrainConfig, tell: Callable[[str], None], micro_batch: int | None = None
) -> tuple[Source, Split, nn.Module, tuple[Path, State] | None]:
    """Data, model and newest checkpoint of a run that stands on disk."""
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
    return source, split, model, found


def _follow(launch: Launch, config: TrainConfig, micro_batch: int | None = None) -> NoReturn:
    """Train with the first process, which has made the run folder ready, and end with it."""
    run = Run(Path(launch.hear_run()))
    opened = _open_run(run, config, lambda _: None, micro_batch)
    try:
        _fit(run, config, *opened[:3], Console(quiet=True), launch, opened[3])
    except RuntimeError as error:
        if "onnection" not in str(error):  # the first process is gone, and said why
            raise
    except (KeyboardInterrupt, SystemExit):
        pass  # the first process answers for all; Lightning kills it when another ends with anything but 0
    raise SystemExit(0)


def _tell(console: Console, told: str) -> None:
    console.print(told, highlight=False, markup=False, soft_wrap=True)


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
            overrides=config.overrides,
        )
    if config.start is not None:
        console.print(str(start_from(model, config.start)), highlight=False, markup=False, soft_wrap=True)
    return model, hints.suited(InputSpec.of_model(model))


def _fit(
    run: Run,
    config: TrainConfig,
    source: Source,
    split: Split,
    model: nn.Module,
    console: Console,
    launch: Launch,
    found: tuple[Path, State] | None = None,
) -> Trained:
    """Run the loop from a checkpoint, if there is one, to the last epoch, and write the metrics."""
    if launch.processes.world > 1:
        model = sync_batch_norms(model)
    spec = run.input_spec()
    augment = source.hints.augment if config.augment == "auto" else config.augment
    varied = Images(source, split["train"], training_transform(spec, augment), config.seed)
    plain = Images(source, split["val"], spec.transform(), config.seed)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    shape = " x ".join(map(str, (spec.channels, *spec.size)))
    for line in (
        f"{config.model}: {parameters / 1e6:.2f} M parameters, {shape} pixels in, {len(source.classes)} classes out",
        f"{config.data}: {len(varied)} images to train on, {len(plain)} held out",
        f"{run.path}: the run folder",
    ):
        _tell(console, line)
    progress = make_progress(console)
    recorder = Recorder(run, progress.report, config.save_every)
    if found is not None:
        recorder.saved = Position(**found[1]["position"])
    module = Classifier(model, config, len(source.classes), partial(_tell, console))
    try:
        with own_processes(launch):
            _loop(run, config, module, varied, plain, [progress, recorder], launch, found)
    except Leave as leave:
        _tell(console, _how_to_go_on(run, module.position))
        if leave.number == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM) from None
        raise KeyboardInterrupt from None
    except KeyboardInterrupt:  # that did not come as a signal
        if recorder.saved is not None:
            _tell(console, _how_to_go_on(run, recorder.saved))
        raise
    except NotFiniteError as error:
        refusal = keep_batch(error, run, config.seed, launch.rank)
        raise (refusal if launch.rank == 0 else SystemExit(0)) from None
    metrics = _summary(recorder, module, parameters, len(varied), len(plain))
    if launch.rank == 0:
        draw_curves(recorder.history, run.curves)
        write_json(run.metrics, metrics)
    return Trained(run, metrics)


def _how_to_go_on(run: Run, position: Position) -> str:
    again = f"hexavit train --resume --out {shlex.quote(str(run.path))}"
    return f"stopped; to go on {position}: {again}"


def _loop(
    run: Run,
    config: TrainConfig,
    module: Classifier,
    varied: Images,
    plain: Images,
    callbacks: list[L.Callback],
    launch: Launch,
    found: tuple[Path, State] | None,
) -> None:
    device = pick_device(config.device)
    loading: dict[str, Any] = {
        "batch_size": config.batch_size,
        "workers": choose_workers(config.workers, varied.source),
        "pin_memory": device.type == "cuda",
        "processes": launch.processes,
    }
    module.batch = min(config.batch_size, len(varied))
    if module.batch < launch.processes.world:
        raise DataError(f"a batch of {module.batch} images cannot be split among {launch.processes.world} processes")
    begin = Position() if found is None else Position(**found[1]["position"])
    per_epoch = max(1, len(varied) // config.batch_size)
    with quiet_lightning(), seeded(config.seed, "training"):
        trainer = L.Trainer(
            accelerator=device.type,
            devices=launch.devices,
            num_nodes=launch.nodes,
            strategy=launch.strategy,
            precision=cast("Any", _PRECISIONS[config.precision]),
            max_epochs=config.epochs,
            deterministic="warn",  # an operation without a deterministic kernel is named, not refused
            callbacks=callbacks,
            plugins=[WholeCheckpointIO(None if found is None else found[1])],
            default_root_dir=run.path,
            logger=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
        first = (begin.epoch, begin.first_batch(per_epoch))
        halo = module.mixture is not None
        taught = make_loader(varied, training=True, begin=first, halo=halo, **loading)
        held_out = make_loader(plain, training=False, **loading)
        try:
            trainer.fit(module, taught, held_out, ckpt_path=None if found is None else found[0], weights_only=True)
        finally:
            stop_workers(taught)
            stop_workers(held_out)


def _summary(recorder: Recorder, module: Classifier, parameters: int, train_images: int, held_out_images: int) -> Row:
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
        "micro_batch": module.micro_batch,
        "train_images": train_images,
        "held_out_images": held_out_images,
        "images_per_second": images / seconds,
        "seconds": seconds,
    }
