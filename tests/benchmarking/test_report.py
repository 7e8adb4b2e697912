"""Ratios, shares and growth against figures computed by hand."""

from __future__ import annotations

import io
import math

import pytest
from PIL import Image

from hexavit.benchmarking import Case, Measured, Result, draw, growth, summary, table

OURS, EXPORTED = ("hexavit", "torch"), ("hexavit", "onnxruntime")
THEIRS, THEIR_EXPORTED = ("timm", "torch"), ("timm", "onnxruntime")


def result(side: int = 224, **seconds: tuple[float, ...]) -> Result:
    """Four contenders of `swin`, in batches of 8; a contender without seconds failed."""
    pairs = {"ours": OURS, "exported": EXPORTED, "theirs": THEIRS, "their_exported": THEIR_EXPORTED}
    case = Case("swin", (side, side), 8, tuple(pairs.values()))
    rows = (
        Measured(*pairs[name], seconds.get(name, ()), 3 << 20, "" if name in seconds else "ValueError: no")
        for name in pairs
    )
    return Result(case, macs=1_000_000, product_rate=1e8, measured=tuple(rows))


def test_rows_hold_rate_spread_ratio_memory_and_share() -> None:
    head, *rows = table([result(ours=(0.5, 0.4, 0.6), exported=(0.25, 0.2, 0.3), theirs=(1.0, 1.0, 0.9))])
    assert head == ("model", "images", "library", "engine", "images/s", "spread", "ratio", "peak MiB", "share")
    start = ("swin", "8 x 224 x 224")
    # 8 images in the median 0.5 s; (0.6 - 0.4) / 0.5; the median of 2, 2.5, 1.5; 16 images of 1e6 of 1e8 a second
    assert rows[0] == (*start, "hexavit", "torch", "16.00", "40%", "2.000", "3.0", "16%")
    assert rows[1] == (*start, "hexavit", "onnxruntime", "32.00", "40%", "4.000", "3.0", "32%")
    assert rows[2] == (*start, "timm", "torch", "8.00", "10%", "1.000", "3.0", "8%")
    assert rows[3] == (*start, "timm", "onnxruntime", "failed", "", "", "", "")


def test_a_training_step_counts_three_passes() -> None:
    found = result(ours=(0.5,))
    training = Result(Case("swin", (224, 224), 8, (OURS,), train=True), found.macs, found.product_rate, found.measured)
    assert training.share(found.measured[0]) == pytest.approx(3 * 0.16)


def test_the_summary_sets_fastest_against_fastest_and_engine_against_engine() -> None:
    one = result(ours=(1.0,), exported=(0.5,), theirs=(2.0,), their_exported=(0.4,))
    other = result(ours=(1.0,), theirs=(3.0,))
    found = summary([one, other])["timm"]
    assert found["fastest"]["lowest"] == pytest.approx(0.8)  # 0.4 / 0.5
    assert found["fastest"]["geometric_mean"] == pytest.approx(math.sqrt(0.8 * 3.0))
    assert found["torch"]["geometric_mean"] == pytest.approx(math.sqrt(2.0 * 3.0))
    assert found["onnxruntime"] == {"lowest": pytest.approx(0.8), "geometric_mean": pytest.approx(0.8), "cases": 1}


def test_growth_is_the_exponent_of_the_pixels() -> None:
    sides = (128, 256, 512)
    found = growth([result(side, ours=(side**3 / 1e7,), theirs=(side**2 / 1e5,)) for side in sides])
    assert found["swin", "hexavit", "torch", 8] == pytest.approx(1.5)
    assert found["swin", "timm", "torch", 8] == pytest.approx(1.0)
    assert growth([result(ours=(1.0,))]) == {}


def test_the_picture_is_a_png() -> None:
    drawn = draw([result(side, ours=(side / 100,)) for side in (32, 64)])
    assert Image.open(io.BytesIO(drawn)).format == "PNG"
