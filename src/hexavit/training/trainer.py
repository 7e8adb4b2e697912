"""``train`` and ``resume``: from settings to a finished run folder."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from lightning_fabric import Fabric
from rich.console import Console

from hexavit.data import Source
from hexavit.data.augment import training_transform
from hexavit.data.loader import Images, choose_workers, make_loader, sampling_weights, stop_workers, worker_errors
from hexavit.data.seeding import seeded
from hexavit.errors import DataError, RunError
from hexavit.files import write_json, write_text
from hexavit.inference.device import pick_device
from hexavit.runs.curves import draw_curves
from hexavit.runs.history import best_row, stopped_early
from hexavit.runs.run_folder import Run, resumable_run
from hexavit.training.config import TrainConfig, checked_value, read_recipe
from hexavit.training.loop.distributed import Launch, restored_environment
from hexavit.training.loop.listener import Listener
from hexavit.training.loop.loggers import WandbLogger, import_wandb
from hexavit.training.loop.loop import TrainingLoop, rounded
from hexavit.training.loop.non_finite import NotFiniteError, save_bad_batch
from hexavit.training.loop.progress import make_progress
from hexavit.training.loop.signals import Interrupted
from hexavit.training.loop.sync_batch_norm import sync_batch_norms
from hexavit.training.loop.time_estimate import TimeEstimate, shorter_runs
from hexavit.training.loop.train_state import TrainState
from hexavit.training.objectives.label_maps import MappedImages
from hexavit.training.setup import PreparedRun, absolute_paths, augment_kind, augmentation, open_run, prepare_run

PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
"""Fabric's names of the precisions."""

CHANGEABLE = {"data", "devices", "workers", "micro_batch", "save_every", "epochs", "patience", "shard", "teacher_cache"}
"""Settings that may change when a run is resumed."""


@dataclass(frozen=True)
class Trained:
    """The result of a training run.

    Attributes:
        run: the run folder.
        metrics: the content of ``metrics.json``: ``accuracy``, ``loss`` (and ``top5``, or ``map`` and ``f1``) of the
            best epoch on the validation images, ``best_epoch``, ``last_accuracy``, ``epochs``, ``steps``,
            ``parameters``, ``train_images``, ``held_out_images`` (validation images), ``micro_batch`` (images in one
            forward pass of a device), ``images_per_second`` and ``seconds`` (of the training steps).
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
    listeners: Sequence[Listener] = (),
) -> Trained:
    """Train a model and write a run folder. The same settings give the same metrics on the same machine.

    Args:
        config: the settings.
        out: the run folder; created if needed.
        overwrite: replace a run that is there.
        console: where progress is shown; by default the standard output.
        source: the data of ``config``, if it is open already.
        listeners: informed of the progress, in the first process.

    Raises:
        HexavitError: the folder, the data, the model or a setting is not valid.
    """
    if config.wandb is not None:
        import_wandb()
    launch = Launch.find(config.devices)
    launch.fabric_options(config.shard)  # raises before the folder is created
    if launch.rank > 0:
        _follow(launch)
    console = console or Console()
    with launch.preparing(lambda: str(Path(out).resolve())):
        prepared = prepare_run(config, out, overwrite, partial(_print, console), source)
    return _fit(prepared, console, launch, listeners)


def resume(out: str | Path, *, given: Mapping[str, Any] | None = None, console: Console | None = None) -> Trained:
    """Continue a run from its last checkpoint. The result equals that of a run that was not interrupted.

    A finished run continues if ``given`` holds more ``epochs`` than it has: the learning rate follows the schedule of
    the new number of epochs.

    Args:
        out: the run folder.
        given: settings; each must be that of the run, except :data:`CHANGEABLE` ones, whose new values are saved.
        console: where progress is shown; by default the standard output.

    Raises:
        RunError: there is no run, it has finished, or a setting that cannot change differs from the run's.
        DataError: the data has changed.
        CheckpointError: all checkpoints of the run are damaged.
    """
    run = resumable_run(out, or_finished=True)
    saved = absolute_paths(TrainConfig.from_mapping(read_recipe(run.config)))
    given = {name: checked_value(name, value) for name, value in (given or {}).items()}
    config = absolute_paths(replace(saved, **given))
    fixed = given.keys() - CHANGEABLE
    if saved.steps is not None:
        fixed |= given.keys() & {"epochs"}  # which are not read
    for name in fixed:
        if getattr(config, name) != getattr(saved, name):
            raise RunError(
                f"{run.path}: this run has {name} {getattr(saved, name)}; it cannot be resumed with "
                f"{getattr(config, name)}"
            )
    launch = Launch.find(config.devices, binding="devices" in given)
    launch.fabric_options(config.shard)
    if launch.rank > 0:
        _follow(launch)
    console = console or Console()
    with launch.preparing(lambda: str(run.path.resolve())):
        prepared = open_run(run, config, partial(_print, console))
        _check_unfinished(prepared)
        if given:
            write_text(run.config, config.to_yaml())
        run.metrics.unlink(missing_ok=True)
    return _fit(prepared, console, launch)


def _check_unfinished(prepared: PreparedRun) -> None:
    """Raise RunError if nothing is left to do, or fewer epochs are asked for than are done."""
    run, steps, patience = prepared.run, prepared.config.steps, prepared.config.patience
    history = [] if prepared.checkpoint is None else prepared.checkpoint["history"]
    epochs = prepared.config.epochs if steps is None else len(history)
    if len(history) > epochs:
        raise RunError(f"{run.path}: epochs is at least {len(history)}, which this run has done, not {epochs}")
    if run.metrics.is_file():
        if stopped_early(history, patience):
            hint = f"after {len(history)} of {epochs} epochs, by patience {patience}; a larger --patience continues it"
            raise RunError(f"{run.path}: this run has finished {hint}")
        if not history or len(history) == epochs:
            more = "; more --epochs continue it" if steps is None else f" its {steps} steps"
            raise RunError(f"{run.path}: this run has finished{more}")


def _follow(launch: Launch) -> NoReturn:
    """Train as a process other than the first, which prepared the run folder; ends the process."""
    run = Run(Path(launch.receive_run()))
    prepared = open_run(run, TrainConfig.from_mapping(read_recipe(run.config)), lambda _: None)
    try:
        _fit(prepared, Console(quiet=True), launch)
    except RuntimeError as error:
        if "onnection" not in str(error):  # the first process has ended, and printed why
            raise
    except (KeyboardInterrupt, SystemExit):
        pass  # the exit status is that of the first process; Fabric kills it if another one's is not 0
    raise SystemExit(0)


def _print(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _fit(prepared: PreparedRun, console: Console, launch: Launch, others: Sequence[Listener] = ()) -> Trained:
    """Run the training loop from the checkpoint, if there is one, and write the final metrics."""
    run, config, device = prepared.run, prepared.config, pick_device(prepared.config.device)
    train_images, val_images = _make_images(prepared)
    config = replace(config, batch_size=min(config.batch_size, len(train_images)))
    if config.batch_size < launch.processes.world:
        raise DataError(
            f"a batch of {config.batch_size} images cannot be split among {launch.processes.world} processes"
        )
    model = sync_batch_norms(prepared.model, device) if launch.processes.world > 1 else prepared.model
    parameters = sum(parameter.numel() for parameter in model.parameters())
    _print_summary(prepared, parameters, len(train_images), len(val_images), console)
    with _fabric_defaults(config.seed), restored_environment(launch):
        fabric = Fabric(
            accelerator=device.type,
            precision=cast("Any", PRECISIONS[config.precision]),
            **launch.fabric_options(config.shard),
        )
        fabric.launch()
        state = None if prepared.checkpoint is None else TrainState(**prepared.checkpoint["train_state"])
        loading: dict[str, Any] = {
            "batch_size": config.batch_size,
            "workers": choose_workers(config.workers, prepared.source, free=device.type != "cpu"),
            "pin_memory": device.type == "cuda",
            "processes": launch.processes,
        }
        train_loader = make_loader(
            train_images,
            training=True,
            begin=(0, 0) if state is None else (state.epoch, state.step),
            halo=prepared.objective.mixture is not None,
            repeats=config.repeats,
            weights=sampling_weights(prepared.source, train_images.numbers) if config.balance == "sampler" else None,
            **loading,
        )
        val_loader = make_loader(val_images, training=False, **loading)
        listeners: list[Listener] = []
        if launch.rank == 0:
            ratio = len(val_images) / len(train_images)
            listeners = [make_progress(console), TimeEstimate(console, ratio, shorter_runs(run, config, model))]
            listeners += [*([WandbLogger(run, config)] if config.wandb is not None else []), *others]
        classes = len(prepared.source.classes)
        loop = TrainingLoop(
            fabric, model, config, prepared.objective, classes, train_loader, val_loader, run, listeners
        )
        if prepared.checkpoint is not None:
            loop.load_state_dict(prepared.checkpoint)
        try:
            loop.fit()
        except Interrupted as interrupted:
            _print(console, _how_to_resume(run, loop.state))
            if interrupted.number == signal.SIGTERM:
                raise SystemExit(128 + signal.SIGTERM) from None
            raise KeyboardInterrupt from None
        except KeyboardInterrupt:  # raised by something else than the signal
            if loop.saved is not None:
                _print(console, _how_to_resume(run, loop.saved))
            raise
        except NotFiniteError as error:
            failure = save_bad_batch(error, run, config.seed, launch.rank)
            raise (failure if launch.rank == 0 else SystemExit(0)) from None
        finally:
            stop_workers(train_loader)
            stop_workers(val_loader)
    metrics = _final_metrics(loop)
    metrics |= {"parameters": parameters, "train_images": len(train_images), "held_out_images": len(val_images)}
    if launch.rank == 0:
        draw_curves(loop.history, run.curves)
        write_json(run.metrics, metrics)
    return Trained(run, metrics)


@contextmanager
def _fabric_defaults(seed: int) -> Iterator[None]:
    """Deterministic algorithms, no messages of Fabric and PyTorch, and generators and flags restored afterwards."""
    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
    try:
        logger.setLevel(logging.ERROR)
        torch.use_deterministic_algorithms(True, warn_only=True)
        with warnings.catch_warnings(), worker_errors(), seeded(seed, "training"):
            # DDP, on a convolution with channels-last weights: a hint about speed.
            warnings.filterwarnings("ignore", ".*Grad strides do not match bucket view strides.*", UserWarning)
            yield
    finally:
        logger.setLevel(level)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


def _make_images(prepared: PreparedRun) -> tuple[Images, Images]:
    """The training images, augmented, and the validation images."""
    config, source, objective, spec = prepared.config, prepared.source, prepared.objective, prepared.run.input_spec()
    augment, strength = augment_kind(config, source), augmentation(config)
    images = Images(source, prepared.split["train"], training_transform(spec, augment, **strength), config.seed)
    if objective.maps is not None:
        images = MappedImages(images, objective.maps, spec, augment, **strength)
    return images, Images(source, prepared.split["val"], spec.transform(), config.seed)


def _print_summary(prepared: PreparedRun, parameters: int, train: int, val: int, console: Console) -> None:
    run, config, spec = prepared.run, prepared.config, prepared.run.input_spec()
    shape = " x ".join(map(str, (spec.channels, *spec.size)))
    classes = len(prepared.source.classes)
    if config.lr_batch is not None:
        formula = f"{config.lr:g} x {config.batch_size} / {config.lr_batch}"
        _print(console, f"learning rate {config.rate:g} = {formula} (lr x batch_size / lr_batch)")
    _print(
        console,
        f"{config.model}: {parameters / 1e6:.2f} M parameters, {shape} pixels in, {classes} classes out\n"
        f"{config.data}: {train} training images, {val} validation images\n"
        f"{run.path}: the run folder",
    )


def _how_to_resume(run: Run, state: TrainState) -> str:
    return f"stopped; to continue {state}: hexavit train --resume --out {shlex.quote(str(run.path))}"


def _final_metrics(loop: TrainingLoop) -> dict[str, float]:
    best, last = best_row(loop.history), loop.history[-1]
    seconds = sum(row["seconds"] for row in loop.history)
    images = sum(row["seconds"] * row["images_per_second"] for row in loop.history)
    return {
        **{name: best[name] for name in ("accuracy", "top5", "map", "f1", "loss") if name in best},
        "best_epoch": best["epoch"],
        "last_accuracy": last["accuracy"],
        "epochs": last["epoch"],
        "steps": last["step"],
        "micro_batch": loop.micro_batch,
        "images_per_second": rounded(images / seconds),
        "seconds": rounded(seconds),
    }
