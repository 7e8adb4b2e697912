"""The nano models of the quick tests that take a second or more for each model."""

import pytest

import hexavit

FEW = ("cvt_nano", "deit_nano", "swin_nano", "pvt_v2_nano", "tnt_nano", "hrt_nano")


def mostly_slow(fixture: str) -> pytest.MarkDecorator:
    """Parametrize a fixture with all nano models; those beside `FEW` are slow tests."""
    names = hexavit.list_models("*_nano")
    made = [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in names]
    return pytest.mark.parametrize(fixture, made, indirect=True)
