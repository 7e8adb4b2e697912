"""Facts about the data, the initial weights, the machine and the models, for :func:`~.rules.choose_settings`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from hexavit._deprecated import renamed
from hexavit.architecture import Architecture
from hexavit.data import Source, open_source
from hexavit.data.split import make_split
from hexavit.data.statistics import check_takes, is_grey, readable
from hexavit.errors import HexavitError, nearest
from hexavit.inference.device import pick_device
from hexavit.models.registry import Entry, find_weight, list_models, model_entry
from hexavit.parts.registry import part_class
from hexavit.runs.run_folder import Run
from hexavit.training.auto_config.fact_types import SMALL, Candidate, DataFacts, Facts, Machine, StartingWeights
from hexavit.training.config import TrainConfig, read_recipe

_SAMPLE = 24
"""Number of images that are opened to measure their sizes."""
_IN_BLOCKS = ("attention", "feedforward", "position")
_MACS_PER_PARAMETER = 210
"""Estimate at 224 pixels, if no multiply-adds are published: DeiT-S has 4.6 G for 22 M, CvT-13 4.5 G for 20 M."""

__getattr__ = renamed(__name__, {"look": f"{__name__}.gather_facts"})


def gather_facts(given: Mapping[str, Any], source: Source | None = None) -> Facts:
    """Gather the facts on which the settings of a run depend. Opens a sample of the images.

    Args:
        given: settings by name; ``data`` is required.
        source: the data, if it is open already.

    Raises:
        HexavitError: the data, the weights or the device do not exist.
    """
    source = source or open_source(given["data"])
    check_takes(source, given.get("in_chans"))
    start = None
    if given.get("start") is not None:
        start = inspect_starting_weights(
            given["start"], given.get("model"), entry=given.get("entry"), prefix=given.get("prefix")
        )
    return Facts(_data_facts(source, given), this_machine(given.get("device", "auto")), candidates(), start)


def _data_facts(source: Source, given: Mapping[str, Any]) -> DataFacts:
    seed = given.get("split_seed", TrainConfig.split_seed)
    split = make_split(source, given.get("val_fraction"), seed, given.get("train_images"))
    train, hints = split["train"], source.hints
    sample = () if hints.size else readable(source, train[:: -(-len(train) // _SAMPLE)])
    seen = [(min(image.size), is_grey(image)) for _, image in sample]
    side = round(median(shorter for shorter, _ in seen)) if seen else max(hints.size or (224,))
    grey = bool(seen) and hints.channels == 3 and all(without_colour for _, without_colour in seen)
    return DataFacts(
        images=len(train),
        classes=len(source.classes),
        channels=1 if grey else hints.channels,
        side=side,
        size=hints.size,
        mirrored=hints.augment != "shift" and not (side <= SMALL and _characters(source.classes)),
        imbalance=_imbalance(source.class_counts(train)),
        multilabel=source.label_sets is not None,
    )


def _imbalance(counts: Sequence[int]) -> float:
    """The largest number of images of a class as a multiple of the smallest; classes without images do not count."""
    occurring = [count for count in counts if count]
    return max(occurring) / min(occurring)


def _characters(classes: Sequence[str]) -> bool:
    """Whether the classes are named by single characters, as those of characters are."""
    return all(len(name) == 1 for name in classes)


def this_machine(device: Any = "auto") -> Machine:
    """Facts about this machine and the device that training will use.

    Raises:
        HexavitError: the device does not exist.
    """
    picked = pick_device(device).type
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")  # of a container
    if limit.is_file() and (bound := limit.read_text().strip()).isdecimal():
        memory = min(memory, int(bound))
    if picked != "cuda":
        return Machine(picked, cores, memory)  # type: ignore[arg-type]  # "cpu" or "mps"
    free, _ = torch.cuda.mem_get_info()
    return Machine("cuda", cores, memory, free, torch.cuda.get_device_capability() >= (8, 0))


def inspect_starting_weights(
    source: str, model: str | None = None, *, entry: str | None = None, prefix: str | None = None
) -> StartingWeights:
    """Facts about the initial weights, without loading them.

    Args:
        source: a model name, a run folder, a saved folder, or a file of weights.
        model: the model name that the user gives, if any.
        entry: the entry of a file that holds the weights.
        prefix: the prefix of the keys to read of a file.

    Raises:
        HexavitError: the source does not exist, or the model of the weights is unknown.
    """
    path = Path(source)
    if not path.exists():
        return _published_weights(source)
    if Run(path).config.is_file():
        run = Run.open(path)
        settings, spec = read_recipe(run.config), run.input_spec()
        return StartingWeights(
            settings["model"], tuple(settings.get("overrides", ())), spec.size, spec.channels, len(run.classes())
        )
    if (path / "architecture.json").is_file():
        saved = Architecture.from_json((path / "architecture.json").read_text(encoding="utf-8"))
        return StartingWeights(saved.name, (), saved.img_size, saved.in_chans, saved.num_classes)
    from hexavit.checkpoints import inspect_checkpoint

    facts = inspect_checkpoint(path, entry=entry, prefix=prefix)
    name = model or facts.model
    if name is None:
        raise HexavitError(f"{source}: these weights do not name their model; pass --model NAME")
    return StartingWeights(name, (), facts.img_size, facts.in_chans, facts.classes)


def _published_weights(name: str) -> StartingWeights:
    model = name.partition(".")[0]
    if model not in list_models():
        hint = nearest(name, list_models())
        near = f": {hint}" if hint.startswith("did") else ""
        raise HexavitError(f"{name}: there is no such run folder, file or model to start from{near}")
    weight = find_weight(name)
    if weight is None:  # the error of loading names the weights that exist
        return StartingWeights(model)
    return StartingWeights(model, (), (weight.img_size, weight.img_size), 3, weight.num_classes)


def candidates() -> tuple[Candidate, ...]:
    """The models that may be chosen.

    They have one classifier, so that labels are enough to train them; a part in the blocks that reads the grid, because
    convolutions learn from fewer images; and are small or have a published accuracy.
    """
    found = []
    for name in list_models():
        entry = model_entry(name)
        if _has_one_classifier(entry) and _has_convolutions(entry.architecture):
            side = max(entry.architecture.img_size)
            found += [Candidate(name, side)] if side <= SMALL else _published_candidate(name, entry)
    return tuple(found)


def _has_one_classifier(entry: Entry) -> bool:
    head = part_class("head", entry.architecture.head.name)
    return len(getattr(head, "classifiers", ("fc",))) == 1


def _has_convolutions(architecture: Architecture) -> bool:
    return any(
        kind in _IN_BLOCKS and getattr(part_class(kind, part.name), "reads_grid", False)
        for _, kind, part in architecture.places()
    )


def _published_candidate(name: str, entry: Entry) -> list[Candidate]:
    for row in entry.published:
        if row.top1 and row.params_m and row.trained_on == "ImageNet-1k" and row.img_size <= 256:
            per_image = row.gflops * 1e9 if row.gflops else row.params_m * 1e6 * _MACS_PER_PARAMETER
            return [Candidate(name, row.img_size, row.params_m, per_image, row.top1)]
    return []
