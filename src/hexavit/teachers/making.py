"""Makes the label maps of a data set: a teacher's highest class logits at each position of each whole image."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hexavit.architecture import image_size
from hexavit.data import open_source
from hexavit.data.batches import read_batches
from hexavit.data.source import OnBadImage
from hexavit.data.split import image_checksums, make_split
from hexavit.errors import DataError, HexavitError, RunError
from hexavit.files import PARTS, write_json
from hexavit.images.decode import shown
from hexavit.inference.device import Device, pick_device
from hexavit.teachers.cache import fingerprint
from hexavit.teachers.shards import FORMAT, INDEX, open_shard, read_index, shard_checksum, write_shard
from hexavit.teachers.sources import absolute_source, load_any_model
from hexavit.teachers.spatial import Size, SpatialClassifier
from hexavit.teachers.teacher import matching_classes

TOP = 5
"""Logits kept at a position, as in the released label maps."""
SHARD = 1024


@dataclass(frozen=True)
class MadeLabelMaps:
    """What a folder of label maps holds.

    Attributes:
        folder: the folder.
        images: number of images.
        classes: number of classes.
        shape: k, h, w.
        size: bytes of all shards.
        teacher: source of the teacher.
        skipped: names of images that could not be read, each with the reason.
        accuracy: share of the images of which the class with the highest mean logit is one of theirs; None if the
            folder does not say, as those of earlier versions.
    """

    folder: str
    images: int
    classes: int
    shape: tuple[int, int, int]
    size: int
    teacher: str
    skipped: dict[str, str]
    accuracy: float | None = None

    def __str__(self) -> str:
        k, height, width = self.shape
        return (
            f"{self.folder}: {self.images:,} label maps of {height} x {width} positions, the {k} highest of "
            f"{self.classes} logits at each, {self.size / 1e6:,.1f} MB, by {self.teacher}"
            + ("" if self.accuracy is None else f"; right for {self.accuracy:.1%} of the images")
        )


def make_label_maps(
    teacher: str,
    data: str,
    out: str | Path,
    *,
    top: int = TOP,
    size: int | Size | None = None,
    batch_size: int = 32,
    shard_size: int = SHARD,
    workers: int | None = None,
    device: Device = "auto",
    train_images: int | None = None,
    val_fraction: float | None = None,
    split_seed: int = 0,
    on_bad_image: OnBadImage = "error",
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> MadeLabelMaps:
    """Write the label maps of all images of a data set but those of its `val` and `test` parts.

    The teacher sees the whole image, resized to its input without regard to the aspect ratio, so that a position is
    the same share of every image. Interrupted, or killed, the same call continues behind the last shard that is
    complete, and leaves the same files.

    Args:
        teacher: as of :func:`hexavit.teachers.load_any_model`.
        data: a data set, as in `hexavit train`.
        out: the folder to write.
        top: k, logits kept at each position; at most all.
        size: height and width of the teacher's input, or both as one number; by default its own. A larger one gives
            more positions.
        batch_size: images per forward pass.
        shard_size: images per shard.
        workers: threads that decode images; by default chosen automatically.
        device: where to compute.
        train_images: only the images that `hexavit train` takes with this setting and the next two; by default all.
        val_fraction: as in `hexavit train`; used with `train_images`.
        split_seed: as in `hexavit train`; used with `train_images`.
        on_bad_image: `skip` leaves out images that cannot be read; `error` raises.
        overwrite: replace label maps that are there.
        tell: called with a sentence after each shard.

    Raises:
        HexavitError: the teacher has no map or lacks a class, the data is not valid, or the folder holds other files or
            the label maps of another request.
    """
    for name, value in (("top", top), ("batch_size", batch_size), ("shard_size", shard_size)):
        if value < 1:
            raise HexavitError(f"{name} is at least 1, not {value}")
    source, loaded = open_source(data), load_any_model(teacher)
    columns = matching_classes(loaded, source.classes, teacher)
    place = pick_device(device)
    sides = loaded.input_spec.size if size is None else image_size(size)
    spec = replace(loaded.input_spec, size=sides, crop_pct=1.0, crop_mode="squash")
    loaded.model.to(place).requires_grad_(False)
    classifier = SpatialClassifier(loaded, spec.size)
    numbers = source.parts.get("train", tuple(range(len(source.names))))
    if train_images is not None:
        numbers = make_split(source, val_fraction, split_seed, train_images)["train"]
    request: dict[str, Any] = {
        "teacher": absolute_source(teacher),
        "fingerprint": fingerprint(loaded.model, columns, spec),
        "data": source.identity,
        "images": len(numbers),
        "split": None if train_images is None else [val_fraction, split_seed],
        "classes": list(source.classes),
        "top": min(top, len(columns)),
        "size": list(spec.size),
        "grid": list(classifier.grid),
        "shard_size": shard_size,
        "batch_size": batch_size,
        "device": place.type,
        "on_bad_image": on_bad_image,
    }
    folder = Path(out)
    index, done = _begin(folder, request, overwrite)
    chosen = torch.tensor(columns, device=place)
    for number, first in enumerate(range(0, len(numbers), shard_size)):
        if number in done:
            continue
        start, share = time.perf_counter(), numbers[first : first + shard_size]
        skipped: dict[str, str] | None = {} if on_bad_image == "skip" else None
        read: list[int] = []
        right = 0
        parts: list[tuple[NDArray[np.float16], NDArray[np.uint16]]] = []
        batches = read_batches(source, share, spec.pixels(), batch_size=batch_size, workers=workers, skipped=skipped)
        for of_batch, pixels in batches:
            read += of_batch
            assert isinstance(pixels, Tensor)  # of one size, which the transform gives
            maps = classifier(spec.normalise(pixels.to(place)))[:, chosen]  # (B, K, h, w)
            parts.append(_highest(maps, request["top"], teacher))
            named = maps.mean(dim=(2, 3)).argmax(dim=1).tolist()
            right += sum(label in source.labels_of(each) for label, each in zip(named, of_batch, strict=True))
        done[number] = {"number": number, "file": "", "images": len(read), "checksum": "", "right": right}
        if read:
            file = f"{number:06d}.safetensors"
            logits, classes = (np.concatenate(each) for each in zip(*parts, strict=True))
            checksums, names = image_checksums(source, read), [source.names[each] for each in read]
            checksum = write_shard(folder / file, names, [checksums[each] for each in read], logits, classes)
            done[number] |= {"file": file, "checksum": checksum}
        index["skipped"] |= skipped or {}
        index["shards"] = [done[each] for each in sorted(done)]
        write_json(folder / INDEX, index)
        rate = len(share) / (time.perf_counter() - start)
        tell(f"{first + len(share):,} of {len(numbers):,} images, {rate:,.0f} a second")
    if not any(each["images"] for each in done.values()):
        raise DataError(f"{source.place}: no image can be read")
    write_json(folder / INDEX, index | {"complete": True})
    return _summary(folder, index)


def check_label_maps(folder: str | Path) -> MadeLabelMaps:
    """Compare every shard of a folder of label maps with its checksum.

    Raises:
        DataError: the folder holds no label maps in shards, is incomplete, or has a damaged shard.
    """
    folder = Path(folder)
    if (index := read_index(folder)) is None:
        raise DataError(f"{shown(folder)}: this folder has no {INDEX}, which `hexavit label-maps make` writes")
    if not index["complete"]:
        raise DataError(
            f"{shown(folder)}: these label maps are incomplete: the same `hexavit label-maps make` continues"
        )
    for each in index["shards"]:
        if not _is_intact(folder, each):
            raise DataError(f"{shown(folder / each['file'])}: this shard of label maps is missing or damaged")
    return _summary(folder, index)


def _begin(folder: Path, request: dict[str, Any], overwrite: bool) -> tuple[dict[str, Any], dict[int, Any]]:
    """The index, new or of an interrupted call, and the entries of its undamaged shards by number."""
    fresh = {"format": FORMAT, "request": request, "shards": [], "skipped": {}, "complete": False}
    known = None if overwrite else read_index(folder)
    if known is None:
        others = [path for path in folder.iterdir() if not path.match(PARTS)] if folder.is_dir() else []
        if others and not (folder / INDEX).is_file():
            raise RunError(f"{shown(folder)}: this folder holds other files: give a new or an empty one")
        for path in folder.glob("*.safetensors"):
            path.unlink()
    elif known["request"] != request:
        name = next(key for key in request if known["request"].get(key) != request[key])
        raise RunError(
            f"{shown(folder)}: these label maps were begun with another {name}: pass --overwrite to replace them, or "
            "another folder"
        )
    for path in folder.glob(PARTS):  # of a killed process
        path.unlink()
    index: dict[str, Any] = fresh if known is None else {**known, "complete": False}
    intact: list[Any] = [each for each in index["shards"] if _is_intact(folder, each)]
    index["shards"] = intact
    write_json(folder / INDEX, index)
    return index, {each["number"]: each for each in intact}


def _is_intact(folder: Path, entry: Mapping[str, Any]) -> bool:
    return not entry["images"] or shard_checksum(folder / entry["file"]) == entry["checksum"]


def _highest(maps: torch.Tensor, top: int, name: str) -> tuple[NDArray[np.float16], NDArray[np.uint16]]:
    """The highest logits and their classes, each (B, k, h, w); of equal logits the first class."""
    values, classes = maps.sort(dim=1, descending=True, stable=True)
    logits = values[:, :top].half()
    if not logits.isfinite().all():
        raise HexavitError(f"{name}: a logit of this teacher is not finite, or too large for 16 bits")
    return logits.cpu().numpy(), classes[:, :top].cpu().numpy().astype(np.uint16)


def _summary(folder: Path, index: Mapping[str, Any]) -> MadeLabelMaps:
    images = sum(each["images"] for each in index["shards"])
    right = [each.get("right") for each in index["shards"]]
    paths = [folder / each["file"] for each in index["shards"] if each["images"]]
    return MadeLabelMaps(
        str(folder),
        images,
        len(index["request"]["classes"]),
        open_shard(paths[0]).shape,
        sum(path.stat().st_size for path in paths),
        index["request"]["teacher"],
        dict(index["skipped"]),
        None if None in right else sum(right) / images,
    )
