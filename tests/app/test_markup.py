import pytest
from PIL import Image

from hexavit.app import markup

HOSTILE = '<img src=x onerror="alert(1)">&\x1b[31m'


@pytest.mark.parametrize(
    "made",
    [
        markup.note(HOSTILE, "error"),
        markup.table([[HOSTILE], [HOSTILE]], caption=HOSTILE, code=(0,)),
        markup.bars({HOSTILE: 0.5}),
        markup.paired_bars([(HOSTILE, [(1.0, HOSTILE)])], [HOSTILE, HOSTILE], HOSTILE),
        markup.columns([HOSTILE], [(HOSTILE, [(HOSTILE, "x=" + HOSTILE)])], [HOSTILE, HOSTILE]),
        markup.figures([(Image.new("RGB", (1, 1)), HOSTILE)]),
        markup.details(HOSTILE, ""),
    ],
)
def test_every_text_is_escaped(made: str) -> None:
    assert "onerror=&quot;alert(1)&quot;" in made
    assert "<img src=x" not in made
    assert "\x1b" not in made


def test_equal_columns_are_not_marked() -> None:
    made = markup.columns(["tokens", "head"], [("0", [("conv", "conv"), ("pool", "class_token")])], ["A", "B"])
    assert made.count("hx-differs") == 1
    assert made.count("<b>conv</b>") == 1


def test_bars_are_fractions_of_one() -> None:
    assert "width:50.00%" in markup.bars({"a": 0.5, "b": 0.1})
    assert markup.note("") == ""
    assert markup.figures([]) == ""
