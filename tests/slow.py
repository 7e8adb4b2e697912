"""Parameters of which a few are quick tests and the others are marked slow."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

import hexavit

FEW = ("cvt_nano", "deit_nano", "swin_nano", "pvt_v2_nano", "tnt_nano")
"""The nano models of the quick tests that take a second or more for each model."""


def mostly_slow(values: Iterable[Any], is_quick: Callable[[Any], bool]) -> list[Any]:
    """The values as parameters, named by their text; those that are not quick are slow tests."""
    return [pytest.param(each, id=str(each), marks=() if is_quick(each) else pytest.mark.slow) for each in values]


def few_nanos() -> list[Any]:
    """All nano models, of which those of `FEW` are quick tests."""
    return mostly_slow(hexavit.list_models("*_nano"), FEW.__contains__)
