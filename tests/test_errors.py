"""The tail of a refusal: what was meant, or what there is."""

import pytest

from hexavit.errors import nearest

MODELS = ["cvt_13", "pvt_tiny", "vit_tiny_patch16_224", "vit_tiny_patch16_384"]


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("vit_tiny", "vit_tiny_patch16_224"),
        ("vit_tiny_patch16_38", "vit_tiny_patch16_384"),
        ("CvT-13", "cvt_13"),
        ("PVT_TINY", "pvt_tiny"),
    ],
)
def test_the_nearest_is_named(asked: str, meant: str) -> None:
    assert nearest(asked, MODELS) == f"did you mean {meant!r}?"


def test_all_are_named_where_nothing_is_near_and_they_are_few() -> None:
    assert nearest("x", ["b", "a"]) == "choose from a, b."
    assert nearest("x", []) == "there is nothing to choose from."
    assert nearest("x", (f"n{i:03}" for i in range(1000))) == "there are 1000, from 'n000' to 'n999'."
