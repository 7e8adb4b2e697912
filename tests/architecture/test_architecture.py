"""A model as data: JSON without loss, the six-column table, and what differs between two."""

import json

import pytest

import hexavit
from hexavit import Architecture, Part, Pattern, Stage
from hexavit.architecture import aligned, image_size
from hexavit.errors import ArchitectureError
from hexavit.models import model_entry


def architecture(name: str = "cvt_nano") -> Architecture:
    return model_entry(name).architecture


@pytest.mark.parametrize("name", hexavit.list_models())
def test_json_without_loss(name: str) -> None:
    assert Architecture.from_json(architecture(name).to_json()) == architecture(name)


def test_json_holds_patterns() -> None:
    stage = Stage(
        dim=8,
        depth=3,
        tokens=Part("conv", kernel=4, stride=4),
        attention=Pattern(
            [Part("global", heads=1), Part("conv_projection", heads=2)], at={-1: Part("global", heads=4)}
        ),
    )
    model = Architecture("mine", (stage,), Part("pool"), in_chans=1, num_classes=2, img_size=(8, 12))
    again = Architecture.from_json(model.to_json())
    assert again == model
    assert [again.stages[0].column("attention", k).options["heads"] for k in range(3)] == [1, 2, 4]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": 2}, 'an architecture is a JSON object with "format": 1'),
        ({"num_clases": 3}, "architecture has no field 'num_clases': did you mean 'num_classes'?"),
        ({"head": {"part": "class_tokn"}}, "there is no head 'class_tokn': did you mean 'class_token'"),
        ({"head": {"part": "pool", "options": {"nrm": True}}}, "head 'pool' has no option 'nrm': did you mean 'norm'?"),
        ({"head": "pool"}, 'head is {"part": name'),
        ({"head": {"part": "pool", "options": 3}}, 'head is {"part": name'),
        ({"head": {"cycle": [{"part": "pool"}], "at": 3}}, 'head is {"part": name'),
        ({"head": {"cycle": [{"part": "pool"}], "at": {"x": {"part": "pool"}}}}, 'head is {"part": name'),
        ({"stages": "three"}, "stages are a JSON list, not 'three'"),
        ({"norm_eps": "small"}, "norm_eps is a number above 0 and below 1, not 'small'"),
        ({"init": 3}, "init is a word, not 3"),
        ({"name": ["a"]}, "name is a word, not ['a']"),
        ({"img_size": [0, 3]}, "img_size is a side or (H, W) in pixels, not [0, 3]"),
    ],
)
def test_invalid_json_raises_one_sentence(change: dict, sentence: str) -> None:
    data = {**json.loads(architecture().to_json()), **change}
    with pytest.raises(ArchitectureError) as error:
        Architecture.from_json(json.dumps(data))
    assert sentence in str(error.value)


def test_json_names_a_missing_field() -> None:
    data = json.loads(architecture().to_json())
    del data["head"]
    with pytest.raises(ArchitectureError, match=r"architecture: missing .* 'head'"):
        Architecture.from_json(json.dumps(data))
    with pytest.raises(ArchitectureError, match="is JSON text, and this is not"):
        Architecture.from_json("{")


def test_one_row_lists_each_part_once_with_shared_options() -> None:
    row = architecture("cvt_nano").with_(head=Part("pool", drop=0.1)).row()
    assert row[2] == f"conv_projection(stride_kv={architecture().stages[0].column('attention').options['stride_kv']})"
    assert row[1] == "none"
    assert row[5] == "pool(drop=0.1)"
    assert architecture("cait_xxs24_224").row(options=False)[2] == "talking_heads, then class_attention"


def test_table_has_six_columns_and_a_row_a_stage() -> None:
    rows = architecture("cvt_13").rows()
    assert rows[0] == ["stage", "tokens", "position", "attention", "feedforward", "residual", "head"]
    assert rows[3] == [
        "2: 10 x 384",
        "conv\nkernel=3, stride=2, padding=1",
        "none",
        "conv_projection\nheads=6, stride_kv=2",
        "mlp\nact=quick_gelu",
        "pre_norm",
        "class_token\nenter=2",
    ]
    text = architecture("cvt_13").table().splitlines()
    assert text[0].split() == rows[0]
    assert max(map(len, text)) <= 120
    assert architecture("cvt_13").table("markdown").count("<br>") > 3


def test_aligned_wraps_and_pads() -> None:
    assert aligned([["a", "b"], ["long words", "x"]], width=5).splitlines() == [
        "a      b",
        "-----  -",
        "long   x",
        "words",
    ]


def test_diff_considers_defaults_and_names_replaced_parts_once() -> None:
    here = architecture("cvt_13")
    assert here.diff(here) == []
    assert here.diff(here.override(["stages.0.feedforward.ratio=4.0"])) == []  # the default, written out
    there = here.override(["stages.1.attention.stride_kv=1", "stages.2.attention=global", "norm_eps=1e-6"])
    assert here.diff(there) == [
        ("norm_eps", "1e-05", "1e-06"),
        ("stages.1.attention.stride_kv", "2", "1"),
        ("stages.2.attention", "conv_projection", "global"),
    ]
    block = here.override(["stages.2.blocks.-1.attention=global"])
    assert here.diff(block) == [("stages.2.blocks.9.attention", None, "global")]


def test_parts_are_values() -> None:
    assert Part("conv", kernel=[1, 2]) == Part("conv", kernel=(1, 2))
    assert len({Part("mlp", act="relu"), Part("mlp", act="relu")}) == 1
    assert len({Pattern([Part("mlp")]), Pattern([Part("mlp")])}) == 1
    assert str(Part("mlp", act="relu", ratio=2)) == "mlp(act=relu, ratio=2)"
    with pytest.raises(ArchitectureError, match="an option is a number"):
        Part("mlp", act=object())
    with pytest.raises(ArchitectureError, match="at least one part"):
        Pattern([])


@pytest.mark.parametrize(("value", "size"), [(32, (32, 32)), ((48, 32), (48, 32)), ([1, 2], (1, 2))])
def test_image_size(value: object, size: tuple[int, int]) -> None:
    assert image_size(value) == size


@pytest.mark.parametrize("value", [0, (1,), (1, 2, 3), "32", True, (1.5, 2), None])
def test_invalid_image_size_raises(value: object) -> None:
    with pytest.raises(ArchitectureError, match="img_size is a side or"):
        image_size(value)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"dim": 0}, "a width of at least 1 and a depth of at least 0"),
        ({"depth": True}, "a width of at least 1 and a depth of at least 0"),
        ({"ramp": "linear"}, "not 'linear'"),
        ({"drop_path": 1}, "a probability in"),
        ({"attention": "global"}, "attention is a Part or a Pattern, as in"),
    ],
)
def test_invalid_stage_raises(fields: dict, sentence: str) -> None:
    good = {"dim": 8, "depth": 1, "tokens": Part("conv", kernel=4, stride=4), "attention": Part("global", heads=1)}
    with pytest.raises(ArchitectureError, match=sentence):
        Stage(**{**good, **fields})


def test_an_architecture_is_made_of_stages_and_a_head() -> None:
    stage = architecture().stages[0]
    with pytest.raises(ArchitectureError, match="stages are a list of Stage, not"):
        Architecture("mine", ("first",), Part("pool"))  # type: ignore[arg-type]
    with pytest.raises(ArchitectureError, match=r"head is a Part, as in Part\('pool'\), not 'pool'"):
        Architecture("mine", (stage,), "pool")  # type: ignore[arg-type]
    with pytest.raises(ArchitectureError, match="a model is given by its name or as an Architecture, not 3"):
        hexavit.create_model(3)  # type: ignore[arg-type]


def test_a_column_that_alternates_is_compared_with_one_that_does_not() -> None:
    found = {path: (a, b) for path, a, b in architecture("cvt_nano").diff(architecture("swin_nano"))}
    assert found["stages.0.attention"] == ("conv_projection", "window / window")
    assert not [path for path in found if path.startswith("stages.0.attention.")]
    other = architecture("swin_nano").override(["stages.0.attention.window=2"])
    assert {path for path, _, _ in architecture("swin_nano").diff(other)} == {
        "stages.0.attention.cycle.0.window",
        "stages.0.attention.cycle.1.window",
    }
