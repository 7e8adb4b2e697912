"""What there is to train with: the data, the weights at hand, the machine, the models; facts for :mod:`choosing`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch

from hexavit.architecture import Architecture
from hexavit.data import Source, open_source
from hexavit.data.split import make_split
from hexavit.data.statistics import check_takes
from hexavit.errors import DataError, HexavitError, nearest
from hexavit.inference.device import pick_device
from hexavit.models.registry import Entry, find_weight, list_models, model_entry
from hexavit.parts.registry import part_class
from hexavit.runs.run_folder import Run
from hexavit.training.auto_config.rules import SMALL, Candidate, DataFacts, Machine, Situation, Start
from hexavit.training.config import TrainConfig, read_recipe

_SAMPLE = 24
"""Images that are opened to learn their sizes."""
_IN_THE_BLOCKS = ("attention", "feedforward", "position")
_MACS_PER_PARAMETER = 210
"""Of a model at 224 whose authors print no multiply-adds: 4.6 G for DeiT-S's 22 M, 4.5 G for CvT-13's 20 M."""


def look(given: Mapping[str, Any], source: Source | None = None) -> Situation:
    """The situation of a training with these settings; a few images are opened, nothing is changed.

    Args:
        given: settings by name, ``data`` among them.
        source: that data, where it is open already.

    Raises:
        HexavitError: one of its kinds, when the data, the weights or the device are not there.
    """
    source = source or open_source(given["data"])
    check_takes(source, given.get("in_chans"))
    data = _data(source, given)
    start = None if given.get("start") is None else find_start(given["start"], given.get("model"))
    return Situation(data, this_machine(given.get("device", "auto")), candidates(), start)


def _data(source: Source, given: Mapping[str, Any]) -> DataFacts:
    usual = TrainConfig(model="", data="")
    split = make_split(source, given.get("val_fraction", usual.val_fraction), given.get("split_seed", usual.split_seed))
    train, hints = split["train"], source.hints
    sample = () if hints.size else train[:: -(-len(train) // _SAMPLE)]
    sides = [side for number in sample if (side := _side(source, number))]
    return DataFacts(
        images=len(train),
        classes=len(source.classes),
        channels=hints.channels,
        side=round(median(sides)) if sides else max(hints.size or (224,)),
        size=hints.size,
        mirrored=hints.augment != "shift",
    )


def _side(source: Source, number: int) -> int | None:
    """The shorter side of an image in pixels; nothing for a broken one, which is named before training starts."""
    try:
        return min(source.load(number).size)
    except DataError:
        return None


def this_machine(device: Any = "auto") -> Machine:
    """The device that training will use, and what stands around it.

    Raises:
        HexavitError: when that device is not there.
    """
    picked = pick_device(device).type
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")  # of a container
    if limit.is_file() and (told := limit.read_text().strip()).isdecimal():
        memory = min(memory, int(told))
    if picked != "cuda":
        return Machine(picked, cores, memory)  # type: ignore[arg-type]  # the other two that there are
    free, _ = torch.cuda.mem_get_info()
    return Machine("cuda", cores, memory, free, torch.cuda.get_device_capability() >= (8, 0))


def find_start(source: str, model: str | None = None) -> Start:
    """What can be known of the weights to start from without loading them.

    Args:
        source: a model's name, a run, a saved folder, or a file of weights.
        model: whose they are, where the user says so.

    Raises:
        HexavitError: there is no such thing, or nobody can know whose weights they are.
    """
    path = Path(source)
    if not path.exists():
        return _published(source)
    if Run(path).config.is_file():
        run = Run.open(path)
        settings, spec = read_recipe(run.config), run.input_spec()
        return Start(
            settings["model"], tuple(settings.get("overrides", ())), spec.size, spec.channels, len(run.classes())
        )
    if (path / "architecture.json").is_file():
        saved = Architecture.from_json((path / "architecture.json").read_text(encoding="utf-8"))
        return Start(saved.name, (), saved.img_size, saved.in_chans, saved.num_classes)
    from hexavit.checkpoints import inspect_checkpoint

    facts = inspect_checkpoint(path)
    name = model or facts.model
    if name is None:
        raise HexavitError(f"{source}: these weights do not name their model; pass --model NAME")
    return Start(name, (), facts.img_size, facts.in_chans, facts.classes)


def _published(name: str) -> Start:
    model = name.partition(".")[0]
    if model not in list_models():
        hint = nearest(name, list_models())
        near = f": {hint}" if hint.startswith("did") else ""
        raise HexavitError(f"{name}: there is no such run folder, file or model to start from{near}")
    weight = find_weight(name)
    if weight is None:  # loading says what there is instead
        return Start(model)
    return Start(model, (), (weight.img_size, weight.img_size), 3, weight.num_classes)


def candidates() -> tuple[Candidate, ...]:
    """The named models that are chosen from: one answer, so that labels are enough to learn from; a part in the blocks
    that reads the grid, as convolutions learn from fewer images; and small, or with a published accuracy."""
    found = []
    for name in list_models():
        entry = model_entry(name)
        if _learns_from_labels(entry) and _has_convolutions(entry.architecture):
            side = max(entry.architecture.img_size)
            found += [Candidate(name, side)] if side <= SMALL else _as_published(name, entry)
    return tuple(found)


def _learns_from_labels(entry: Entry) -> bool:
    head = part_class("head", entry.architecture.head.name)
    return len(getattr(head, "classifiers", ("fc",))) == 1


def _has_convolutions(architecture: Architecture) -> bool:
    return any(
        kind in _IN_THE_BLOCKS and getattr(part_class(kind, part.name), "reads_grid", False)
        for _, kind, part in architecture.places()
    )


def _as_published(name: str, entry: Entry) -> list[Candidate]:
    for told in entry.published:
        if told.top1 and told.params_m and told.trained_on == "ImageNet-1k" and told.img_size <= 256:
            per_image = told.gflops * 1e9 if told.gflops else told.params_m * 1e6 * _MACS_PER_PARAMETER
            return [Candidate(name, told.img_size, told.params_m, per_image, told.top1)]
    return []
