import pytest
import torch

import hexavit
from hexavit.app import comparing
from hexavit.app.sources import Sources
from hexavit.errors import HexavitError
from hexavit.models import resolve
from hexavit.parts.registry import KINDS


def test_edits_are_lines() -> None:
    assert comparing.edits_of("\n --set head=pool \n\nstages.0.depth=2") == ["head=pool", "stages.0.depth=2"]


def test_cost_and_difference_are_those_of_the_library() -> None:
    nano = resolve("cvt_nano")
    one, other = comparing.side("cvt_nano", nano, []), comparing.side("cvt_nano", nano, ["head=pool"])
    edited = hexavit.profile(resolve("cvt_nano", overrides=["head=pool"]))
    rows = {row[0]: row[1:] for row in comparing.cost_rows(one, other)}
    macs = hexavit.profile("cvt_nano").macs
    assert rows["multiply-adds"] == [f"{macs:,}", f"{edited.macs:,}", f"{edited.macs / macs - 1:+.1%}"]
    assert rows["image size"] == ["32 x 32", "32 x 32", "equal"]
    assert comparing.differences(nano, other.architecture)[1] == ["head", "head", "class_token", "pool"]
    assert other.name == "cvt_nano + 1 edit"
    by_kind = dict(comparing.cost_by_kind(one, other))
    assert sum(value for (value, _), _ in by_kind.values()) == macs


def test_an_edit_that_does_not_fit_is_the_sentence_of_the_library() -> None:
    with pytest.raises(HexavitError, match=r"head=messengers works on the extra tokens of windows"):
        comparing.side("cvt_nano", resolve("cvt_nano"), ["head=messengers"])


def test_stages_stand_side_by_side() -> None:
    rows = comparing.stage_rows(resolve("cvt_nano"), resolve("deit_nano"))
    assert len(rows) == 3
    assert rows[0][0] == "0: 1 x 32 | 0: 4 x 96"
    assert rows[2][1][0][1] == ""
    assert [cells[0] != cells[1] for cells in rows[0][1]][:3] == [True, True, True]


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind == "head" else pytest.mark.slow) for kind in KINDS]
)
def test_the_menu_tells_what_fits(kind: str) -> None:
    nano = resolve("cvt_nano")
    found = comparing.choices(nano, "1", kind)
    assert {each.name for each in found} == set(hexavit.parts.part_names(kind))
    assert found[0].error == ""
    path = comparing.path_of("1", kind)
    for each in found:
        edit = f"{path}={each.value}"
        with torch.device("meta"):
            if each.error:
                assert each.label.endswith("(does not fit)")
                with pytest.raises(HexavitError):
                    hexavit.create_model("cvt_nano", overrides=[edit])
            else:
                hexavit.create_model("cvt_nano", overrides=[edit])


def test_a_part_with_required_options_gets_those_of_a_model() -> None:
    found = {each.name: each for each in comparing.choices(resolve("cvt_nano"), "0", "tokens")}
    assert found["conv_stem"].value.startswith("conv_stem(channels=")


def test_options_have_their_values() -> None:
    found = comparing.option_values(resolve("cvt_nano"), "2", "attention")
    assert (found["heads"], found["stride_kv"]) == ("4", "2")
    assert comparing.option_values(resolve("cvt_nano"), comparing.ALL, "head")["enter"] == "2"


def test_an_edit_replaces_those_below_it() -> None:
    edits = ["stages.1.attention=window", "stages.1.attention.window=4", "head=pool"]
    assert comparing.with_edit(edits, "stages.1.attention", "global") == ["head=pool", "stages.1.attention=global"]


def test_columns_that_alternate_are_edited_as_a_whole() -> None:
    architecture = resolve("swin_nano")
    assert comparing.current(architecture, "0", "attention")
    assert not comparing.choices(architecture, comparing.ALL, "head")[0].error
    assert Sources().architecture("swin_nano") == architecture
