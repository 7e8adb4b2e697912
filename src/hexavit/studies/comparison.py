"""Models compared without training: cost by kind of part, published accuracy, measured speed, memory and growth."""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

import hexavit
from hexavit.architecture import Architecture
from hexavit.errors import HexavitError
from hexavit.models import list_models, model_entry, resolve
from hexavit.profiling import Profile, profile
from hexavit.profiling.measure import interleaved, peak_bytes, processor


@dataclass(frozen=True)
class Measured:
    """One model at one size of image.

    Attributes:
        images_per_second: median over the rounds.
        peak_bytes: memory that one batch adds; None where it is not known.
    """

    images_per_second: float
    peak_bytes: int | None


@dataclass(frozen=True)
class Compared:
    """One model of a comparison.

    Attributes:
        name: as given, with its overrides.
        architecture: the model.
        counted: its cost at its own size.
        top1: published accuracy on ImageNet-1k, as a fraction of 1; None if none is, or the model was edited.
        source: of the published accuracy.
        measured: speed and memory by the side of a square image.
    """

    name: str
    architecture: Architecture
    counted: Profile
    top1: float | None = None
    source: str = ""
    measured: Mapping[int, Measured] = field(default_factory=dict)

    @property
    def growth(self) -> float | None:
        """The exponent e of time ~ pixels^e, fitted to the measured sizes; None for fewer than two."""
        if len(self.measured) < 2:
            return None
        pixels = [math.log(side * side) for side in self.measured]
        seconds = [-math.log(each.images_per_second) for each in self.measured.values()]
        return statistics.linear_regression(pixels, seconds).slope

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            **self.counted.as_dict(),
            "top1": self.top1,
            "source": self.source,
            "measured": {
                str(side): {"images_per_second": each.images_per_second, "peak_bytes": each.peak_bytes}
                for side, each in self.measured.items()
            },
            "growth": self.growth,
        }


def compare(
    models: Sequence[str],
    edits: Sequence[Sequence[str]] = ((),),
    *,
    sizes: Sequence[int] = (),
    batch_size: int = 8,
    rounds: int = 5,
) -> list[Compared]:
    """Compare models, each with each list of edits, without training them.

    Args:
        models: names.
        edits: lists of overrides, as `PATH=VALUE`.
        sizes: sides of square images at which speed and memory are measured, all models side by side, on this machine.
        batch_size: images in one forward pass.
        rounds: of the measurement.

    Raises:
        HexavitError: a model cannot be built, or an image size does not fit it.
    """
    found = []
    for model in models:
        for edited in edits:
            architecture = resolve(model, overrides=list(edited))
            entry = model_entry(model) if not edited and model in list_models() else None
            figures = [each for each in entry.published if each.top1 is not None] if entry else []
            published = max(figures, key=lambda each: each.img_size == architecture.img_size[0], default=None)
            found.append(
                Compared(
                    ", ".join((model, *edited)),
                    architecture,
                    profile(architecture),
                    published.top1 if published else None,
                    f"{published.trained_on}, {published.img_size} pixels; {published.source}" if published else "",
                )
            )
    if not sizes:
        return found
    measured: list[dict[int, Measured]] = [{} for _ in found]
    for side in sizes:
        for place, each in zip(measured, _measured(found, side, batch_size, rounds), strict=True):
            place[side] = each
    return [
        Compared(each.name, each.architecture, each.counted, each.top1, each.source, here)
        for each, here in zip(found, measured, strict=True)
    ]


@torch.no_grad()
def _measured(models: Sequence[Compared], side: int, batch_size: int, rounds: int) -> list[Measured]:
    runs = {}
    for number, each in enumerate(models):
        try:
            model = hexavit.create_model(each.architecture, img_size=side).eval()
        except HexavitError as error:
            raise HexavitError(f"{each.name} at {side} pixels: {error}") from error
        runs[str(number)] = partial(model, torch.randn(batch_size, each.architecture.in_chans, side, side))
    seconds = interleaved(runs, rounds)
    return [Measured(batch_size / statistics.median(seconds[name]), peak_bytes(run)) for name, run in runs.items()]


def table(models: Sequence[Compared]) -> list[list[str]]:
    """A head and one row per figure, one column per model."""
    kinds = list(dict.fromkeys(kind for each in models for kind in each.counted.by_kind()))
    stages = list(dict.fromkeys(stage for each in models for stage in each.counted.by_stage() if stage.isdigit()))
    sides = list(dict.fromkeys(side for each in models for side in each.measured))
    rows = [["", *(each.name for each in models)]]
    rows.append(["image size", *(" x ".join(map(str, each.counted.img_size)) for each in models)])
    rows.append(["parameters", *(f"{each.counted.parameters:,}" for each in models)])
    rows.append(["multiply-adds", *(f"{each.counted.macs:,}" for each in models)])
    for title, groups in (("stage", stages), ("", kinds)):
        for group in groups:
            by = [(each.counted.by_stage() if title else each.counted.by_kind()).get(group) for each in models]
            name = f"{title} {group}".strip()
            rows.append([f"  of {name}", *(f"{cost.macs:,}" if cost else "–" for cost in by)])
    rows.append(["activation bytes", *(f"{each.counted.activation_bytes:,}" for each in models)])
    for side in sides:
        here = [each.measured[side] for each in models]
        rows.append([f"images/s at {side}", *(f"{each.images_per_second:.1f}" for each in here)])
        peaks = (f"{each.peak_bytes / 2**20:.1f} MiB" if each.peak_bytes is not None else "–" for each in here)
        rows.append([f"peak memory at {side}", *peaks])
    if len(sides) > 1:
        rows.append(["time grows as pixels^", *(f"{each.growth:.2f}" for each in models)])
    rows.append(["top-1, published", *("–" if each.top1 is None else f"{each.top1:.1%}" for each in models)])
    return rows


def machine() -> str:
    """On which speed is measured."""
    return processor()


def draw(models: Sequence[Compared]) -> bytes:
    """Multiply-adds by kind of part as stacked bars, and measured time by size where there is one; a PNG."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no window system

    timed = any(len(each.measured) > 1 for each in models)
    figure = Figure(figsize=(12 if timed else 7, 1.5 + 0.5 * len(models) + 2), layout="constrained")
    axes = figure.subplots(1, 2 if timed else 1, squeeze=False)[0]
    left = [0.0] * len(models)
    names = [each.name.replace("$", r"\$") for each in models]
    for kind in dict.fromkeys(kind for each in models for kind in each.counted.by_kind()):
        costs = [each.counted.by_kind().get(kind) for each in models]
        widths = [cost.macs / 1e9 if cost else 0.0 for cost in costs]
        axes[0].barh(names, widths, left=left, label=kind)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes[0].invert_yaxis()
    axes[0].set(xlabel="multiply-adds of one image in billions")
    axes[0].legend(fontsize="small")
    if timed:
        for name, each in zip(names, models, strict=True):
            sides = list(each.measured)
            axes[1].plot(sides, [1000 / each.measured[side].images_per_second for side in sides], ".-", label=name)
        axes[1].set(xlabel="side of the image", ylabel="ms per image", xscale="log", yscale="log")
        axes[1].legend(fontsize="small")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
