"""Training from first to last: data, model and folder made ready, Lightning's loop run, the result written."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

import lightning as L
from rich.console import Console

from hexavit.data import Source
from hexavit.data.augment import training_transform
from hexavit.data.lightning_logging import quiet_lightning
from hexavit.data.loader import Images, choose_workers, make_loader, stop_workers
from hexavit.data.seeding import seeded
from hexavit.errors import DataError, RunError
from hexavit.files import write_json
from hexavit.inference.device import pick_device
from hexavit.runs.claim import unfinished
from hexavit.runs.curves import draw_curves
from hexavit.runs.run_folder import Run
from hexavit.training.config import TrainConfig, checked_value, read_recipe
from hexavit.training.loop.checkpoints import WholeCheckpointIO
from hexavit.training.loop.distributed import Launch, own_processes
from hexavit.training.loop.loggers import check_trackers, make_trackers, telling
from hexavit.training.loop.module import Classifier, NotFiniteError
from hexavit.training.loop.non_finite import keep_batch
from hexavit.training.loop.progress import make_progress
from hexavit.training.loop.run_writer import Recorder, Row, by_clock
from hexavit.training.loop.signals import Leave
from hexavit.training.loop.sync_batch_norm import sync_batch_norms
from hexavit.training.loop.time_estimate import TimeLeft, offer_smaller
from hexavit.training.loop.train_state import Position
from hexavit.training.objectives.label_maps import MappedImages
from hexavit.training.setup import Ready, new_run, standing_run

_PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


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


def train(
    config: TrainConfig,
    out: str | Path,
    *,
    overwrite: bool = False,
    console: Console | None = None,
    source: Source | None = None,
) -> Trained:
    """Train a model and leave a run folder. The same config gives the same metrics on the same machine.

    Args:
        config: the settings.
        out: the run folder, made if need be.
        overwrite: replace a run that stands there.
        console: where progress is shown; by default the standard output.
        source: the data of ``config``, where it is open already; it can take long to open.

    Raises:
        HexavitError: one of its kinds, when the folder, the data, the model or the settings are not right.
    """
    check_trackers(config)
    launch = Launch.find(config.devices)
    if launch.rank > 0:
        _follow(launch)
    shown = console or Console()
    with launch.leading(lambda: str(Path(out).resolve())):
        ready = new_run(config, out, overwrite, partial(_tell, shown), source)
    return _fit(ready, shown, launch)


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
    launch = Launch.find(config.devices, binding="devices" in changed)
    if launch.rank > 0:
        _follow(launch, changed)
    shown = console or Console()
    with launch.leading(lambda: str(run.path.resolve())):
        ready = standing_run(run, config, partial(_tell, shown), changed.get("micro_batch"))
    return _fit(ready, shown, launch)


def _follow(launch: Launch, changed: Mapping[str, Any] | None = None) -> NoReturn:
    """Train with the first process, which has made the run folder ready, and end with it."""
    run = Run(Path(launch.hear_run()))
    changed = changed or {}
    config = replace(TrainConfig.from_mapping(read_recipe(run.config)), **changed)
    ready = standing_run(run, config, lambda _: None, changed.get("micro_batch"))
    try:
        _fit(ready, Console(quiet=True), launch)
    except RuntimeError as error:
        if "onnection" not in str(error):  # the first process is gone, and said why
            raise
    except (KeyboardInterrupt, SystemExit):
        pass  # the first process answers for all; Lightning kills it when another ends with anything but 0
    raise SystemExit(0)


def _tell(console: Console, told: str) -> None:
    console.print(told, highlight=False, markup=False, soft_wrap=True)


def _fit(ready: Ready, console: Console, launch: Launch) -> Trained:
    """Run the loop from a checkpoint, if there is one, to the last epoch, and write the metrics."""
    run, config, source, found = ready.run, ready.config, ready.source, ready.found
    model = sync_batch_norms(ready.model) if launch.processes.world > 1 else ready.model
    varied, plain = _images(ready)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    spec = run.input_spec()
    shape = " x ".join(map(str, (spec.channels, *spec.size)))
    for line in (
        f"{config.model}: {parameters / 1e6:.2f} M parameters, {shape} pixels in, {len(source.classes)} classes out",
        f"{config.data}: {len(varied)} images to train on, {len(plain)} held out",
        f"{run.path}: the run folder",
    ):
        _tell(console, line)
    progress = make_progress(console)
    trackers = make_trackers(run, config) if launch.rank == 0 else []
    recorder = Recorder(run, telling(*(each.log for each in trackers), progress.report), config.save_every)
    if found is not None:
        recorder.saved = Position(**found[1]["position"])
    left = TimeLeft(console, len(plain) / len(varied), offer_smaller(run, config, model))
    module = Classifier(model, config, len(source.classes), ready.lesson, partial(_tell, console))
    try:
        with own_processes(launch):
            _loop(ready, module, varied, plain, [progress, left, *trackers, recorder], launch)
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


def _images(ready: Ready) -> tuple[Images, Images]:
    """Those to train on, varied, and those held out, plain."""
    config, source, lesson, spec = ready.config, ready.source, ready.lesson, ready.run.input_spec()
    augment = source.hints.augment if config.augment == "auto" else config.augment
    strength: dict[str, Any] = {"magnitude": config.magnitude, "erasing": config.erasing}
    varied = Images(source, ready.split["train"], training_transform(spec, augment, **strength), config.seed)
    if lesson.maps is not None:
        varied = MappedImages(varied, lesson.maps, spec, augment, **strength)
    return varied, Images(source, ready.split["val"], spec.transform(), config.seed)


def _how_to_go_on(run: Run, position: Position) -> str:
    again = f"hexavit train --resume --out {shlex.quote(str(run.path))}"
    return f"stopped; to go on {position}: {again}"


def _loop(
    ready: Ready, module: Classifier, varied: Images, plain: Images, callbacks: list[L.Callback], launch: Launch
) -> None:
    config, found = ready.config, ready.found
    device = pick_device(config.device)
    loading: dict[str, Any] = {
        "batch_size": config.batch_size,
        "workers": choose_workers(config.workers, varied.source, free=device.type != "cpu"),
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
            default_root_dir=ready.run.path,
            logger=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
        first = (begin.epoch, begin.first_batch(per_epoch))
        halo = module.lesson.mixture is not None
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
        "images_per_second": by_clock(images / seconds),
        "seconds": by_clock(seconds),
    }
