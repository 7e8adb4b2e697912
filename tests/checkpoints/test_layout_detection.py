"""Recognising a layout: few regular-expression matches, however many families there are."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import hexavit
from hexavit.checkpoints import layout_detection
from hexavit.checkpoints.layout_detection import find_origin
from hexavit.errors import CheckpointError
from hexavit.models import LAYOUTS
from hexavit.models.cvt.keys import AUTHORS
from hexavit.models.layouts import Layout


def cvt_13() -> dict[str, Tensor]:
    with torch.device("meta"):
        return AUTHORS.to_theirs(hexavit.create_model("cvt_13").state_dict(), lambda key: 1).state


def count_matches(keys: list[str]) -> int:
    """How often `find_origin` runs a regular expression, counted by the interpreter's profiling hook."""
    calls = 0

    def count(frame: Any, event: str, function: Any) -> None:
        nonlocal calls
        calls += event == "c_call" and isinstance(getattr(function, "__self__", None), re.Pattern)

    sys.setprofile(count)
    try:
        find_origin(keys, "a file")
    finally:
        sys.setprofile(None)
    return calls


def test_a_layout_is_recognised_with_few_matches() -> None:
    keys = list(cvt_13())
    assert find_origin(keys, "a file") == layout_detection.Origin(AUTHORS)  # builds the index
    assert count_matches(keys) <= 5 * len(keys)  # 638,848 when every layout was tried on every key


@contextmanager
def known_layouts(monkeypatch: pytest.MonkeyPatch, layouts: tuple[Layout, ...]) -> Iterator[None]:
    """Only these layouts are known."""
    caches = (layout_detection._candidates, layout_detection._index)
    with monkeypatch.context() as patch:
        patch.setattr(layout_detection, "LAYOUTS", layouts)
        for each in caches:
            each.cache_clear()
        yield
    for each in caches:
        each.cache_clear()


def test_the_matches_do_not_grow_with_the_families(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = list(cvt_13())
    find_origin(keys, "a file")
    before = count_matches(keys)
    others = tuple(replace(layout, family=f"{layout.family}_{i}") for i in range(2) for layout in LAYOUTS)
    with known_layouts(monkeypatch, (*LAYOUTS, *others)):
        find_origin(keys, "a file")
        assert count_matches(keys) == before


def test_expressions_are_compiled_for_few_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = tuple(replace(layout) for layout in LAYOUTS)
    with known_layouts(monkeypatch, fresh):
        assert find_origin(list(cvt_13()), "a file").family == "cvt"
    compiled = [layout.family for layout in fresh if "_theirs" in vars(layout)]
    assert "cvt" in compiled
    assert len(compiled) <= 3


def test_keys_of_no_layout_are_rejected() -> None:
    resnet = ["conv1.weight", "bn1.weight", *(f"layer{i}.0.conv1.weight" for i in range(1, 5)), "fc.weight"]
    for keys in ([], resnet, ["stage0.cls_token", "a", "b"]):
        with pytest.raises(CheckpointError, match="match no known layout"):
            find_origin(keys, "a file")
