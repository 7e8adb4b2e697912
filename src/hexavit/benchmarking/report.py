"""The results as a table, a summary of ratios, and a picture of how time grows with the image."""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Sequence
from typing import Any

from hexavit.benchmarking.measuring import Measured, Result
from hexavit.benchmarking.peers import OURS

HEAD = ("model", "images", "library", "engine", "images/s", "spread", "ratio", "peak MiB", "share")


def baseline(result: Result) -> Measured | None:
    """What the ratios of a case are to: the first other library on its first engine that ran, else hexavit's first."""
    ran = [each for each in result.measured if each.seconds]
    return next((each for each in ran if each.library != OURS), ran[0] if ran else None)


def ratio(one: Measured, other: Measured) -> float:
    """How many times as fast the first is as the other: the median over the rounds."""
    return statistics.median(b / a for a, b in zip(one.seconds, other.seconds, strict=True))


def table(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """A head, and one row per contender of each case."""
    rows: list[tuple[str, ...]] = [HEAD]
    for result in results:
        case, base = result.case, baseline(result)
        images = f"{case.batch} x {' x '.join(map(str, case.size))}"
        for each in result.measured:
            start = (case.model, images, each.library, each.engine)
            rate, share = result.rate(each), result.share(each)
            if rate is None or share is None or base is None:
                rows.append((*start, "failed", "", "", "", ""))
                continue
            spread = (max(each.seconds) - min(each.seconds)) / statistics.median(each.seconds)
            peak = "" if each.peak_bytes is None else f"{each.peak_bytes / 2**20:.1f}"
            rows.append((*start, f"{rate:.2f}", f"{spread:.0%}", f"{ratio(each, base):.3f}", peak, f"{share:.0%}"))
    return rows


def fastest(result: Result, library: str) -> Measured | None:
    """The fastest engine of a library in a case."""
    ran = [each for each in result.measured if each.library == library and each.seconds]
    return min(ran, key=lambda each: statistics.median(each.seconds), default=None)


def summary(results: Sequence[Result]) -> dict[str, Any]:
    """For each other library: hexavit's fastest engine against the library's fastest, lowest and geometric mean.

    The same for each engine against the same engine of the library.
    """
    found: dict[str, Any] = {}
    libraries = dict.fromkeys(each.library for result in results for each in result.measured if each.library != OURS)
    for library in libraries:
        pairs: dict[str, list[float]] = {"fastest": []}
        for result in results:
            ours, theirs = fastest(result, OURS), fastest(result, library)
            if ours is not None and theirs is not None:
                pairs["fastest"].append(ratio(ours, theirs))
            for each in result.measured:
                same = [m for m in result.measured if (m.library, m.engine) == (library, each.engine) and m.seconds]
                if each.library == OURS and each.seconds and same:
                    pairs.setdefault(each.engine, []).append(ratio(each, same[0]))
        found[library] = {
            engine: {"lowest": min(ratios), "geometric_mean": statistics.geometric_mean(ratios), "cases": len(ratios)}
            for engine, ratios in pairs.items()
            if ratios
        }
    return found


def growth(results: Sequence[Result]) -> dict[tuple[str, str, str, int], float]:
    """The exponent e of time ~ pixels^e by (model, library, engine, batch), where two sizes or more were measured."""
    points: dict[tuple[str, str, str, int], list[tuple[float, float]]] = {}
    for result in results:
        for each in result.measured:
            if each.seconds:
                key = (result.case.model, each.library, each.engine, result.case.batch)
                pixels = math.log(math.prod(result.case.size))
                points.setdefault(key, []).append((pixels, math.log(statistics.median(each.seconds))))
    return {
        key: statistics.linear_regression(*zip(*some, strict=True)).slope
        for key, some in points.items()
        if len({pixels for pixels, _ in some}) > 1
    }


def draw(results: Sequence[Result]) -> bytes:
    """Milliseconds per image by the side of the image, one line per contender; a PNG."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no window system

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    lines: dict[str, list[tuple[float, float]]] = {}
    for result in results:
        for each in result.measured:
            rate = result.rate(each)
            if rate is not None:
                name = f"{result.case.model}, {each.library}, {each.engine}, batch {result.case.batch}"
                lines.setdefault(name, []).append((math.sqrt(math.prod(result.case.size)), 1000 / rate))
    for name, points in lines.items():
        axes.plot(*zip(*sorted(points), strict=True), "o-", label=name)
    axes.set(xlabel="side of the image (of a square of as many pixels)", ylabel="ms per image")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
