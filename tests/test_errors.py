"""The end of an error message: the nearest choice, or all choices."""

import pytest

from hexavit.errors import nearest

MODELS = ["cvt_13", "pvt_tiny", "vit_tiny_patch16_224", "vit_tiny_patch16_384"]


@pytest.mark.parametrize(
    ("given", "nearest_choice"),
    [
        ("vit_tiny", "vit_tiny_patch16_224"),
        ("vit_tiny_patch16_38", "vit_tiny_patch16_384"),
        ("CvT-13", "cvt_13"),
        ("PVT_TINY", "pvt_tiny"),
    ],
)
def test_the_nearest_choice_is_named(given: str, nearest_choice: str) -> None:
    assert nearest(given, MODELS) == f"did you mean {nearest_choice!r}?"


def test_all_choices_are_listed_if_none_is_near() -> None:
    assert nearest("x", ["b", "a"]) == "choose from a, b."
    assert nearest("x", [""]) == nearest("x", []) == "there is nothing to choose from."
    assert nearest("x", (f"n{i:03}" for i in range(1000))) == "there are 1000, from 'n000' to 'n999'."
