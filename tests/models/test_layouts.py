"""Key tables: the mechanism on small tables, and properties of every published table."""

import pytest
import torch
from torch import Tensor

import hexavit
from hexavit import Architecture
from hexavit.models import LAYOUTS, list_models, model_entry
from hexavit.models.key_tables import (
    CHANNELS,
    HEADS_BIAS,
    HEADS_IN,
    HEADS_OUT,
    HWIO,
    POINTWISE,
    TRANSPOSED,
    As,
    Form,
    Join,
    Split,
)
from hexavit.models.layouts import Layout

TOY = Layout(
    "toy",
    "toy",
    {
        "blocks.{}.w.*": "stages.{}.w.*",
        "kv.{}": Split("k.{}", "v.{}", form=POINTWISE),
        ("a.{}", "b.{}"): Join("ab.{}"),
        "g": As("norm", CHANNELS),
        "mask": None,
    },
)


def counted(*shape: int) -> Tensor:
    return torch.arange(float(torch.Size(shape).numel())).reshape(shape)


def one_head(key: str) -> int:
    return 1


def test_tensors_are_renamed_split_joined_reshaped_and_dropped() -> None:
    state = {
        "blocks.7.w.bias": counted(3),
        "kv.0": counted(4, 3, 1, 1),
        "a.2": counted(2),
        "b.2": counted(2) + 10,
        "g": counted(1, 3, 1, 1),
        "mask": counted(1),
        "strange": counted(1),
    }
    done = TOY.to_ours(state)
    assert done.dropped == ["mask"]
    assert done.unexplained == ["strange"]
    assert not done.broken
    assert {key: tuple(t.shape) for key, t in done.state.items()} == {
        "stages.7.w.bias": (3,), "k.0": (2, 3), "v.0": (2, 3), "ab.2": (4,), "norm": (3,),
    }  # fmt: skip
    assert done.sources["v.0"] == ("kv.0",)
    assert done.sources["ab.2"] == ("a.2", "b.2")
    back = TOY.to_theirs(done.state, one_head)
    assert not back.unexplained
    assert set(back.state) == set(state) - {"mask", "strange"}
    assert all(torch.equal(back.state[key], state[key]) for key in back.state)


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ({"a.0": counted(2)}, "a.0 needs b.0 beside it"),
        ({"kv.0": counted(3, 3, 1, 1)}, "kv.0 (3, 3, 1, 1) does not have the form"),
        ({"kv.0": counted(4, 3, 3, 3)}, "does not have the form 1x1 convolution"),  # numbers would be left out
        ({"g": counted(3)}, "g (3,) does not have the form over channels"),
    ],
)
def test_a_row_that_applies_in_part_raises_an_error(state: dict[str, Tensor], sentence: str) -> None:
    done = TOY.to_ours(state)
    assert not done.state
    assert sentence in done.broken[0]


def test_two_tensors_with_one_target_raise_an_error() -> None:
    twice = Layout("toy", "toy", {"a": "x", "b": "x"})
    assert twice.to_ours({"a": counted(1), "b": counted(1)}).broken == ["b and a are both x"]


@pytest.mark.parametrize(
    "key", ["blocks.07.w.bias", "blocks.-1.w.bias", "blocks.1.w.a.b", "blocks.1.w.bias ", "blocks.\u0661.w.bias"]
)
def test_an_index_is_a_plain_number_and_a_last_name_one_word(key: str) -> None:
    assert TOY.to_ours({key: counted(1)}).unexplained == [key]


def test_a_part_that_is_zero_in_theirs_keeps_its_place() -> None:
    """torchvision's Swin V2 has one bias for q, k and v, of which that of k is 0."""
    layout = Layout("toy", "toy", {"qkv.bias": Split("q_bias", None, "v_bias")})
    ours = {"q_bias": torch.tensor([1.0, 2.0]), "v_bias": torch.tensor([3.0, 4.0])}
    theirs = layout.to_theirs(ours, lambda key: 1).state
    assert theirs["qkv.bias"].tolist() == [1, 2, 0, 0, 3, 4]
    back = layout.to_ours({"qkv.bias": torch.tensor([1.0, 2.0, 9.0, 9.0, 3.0, 4.0])}).state
    assert {key: value.tolist() for key, value in back.items()} == {"q_bias": [1, 2], "v_bias": [3, 4]}


def test_unequal_parts_are_cut_by_their_shares() -> None:
    """TNT has one linear for q and k and one for v."""
    layout = Layout("toy", "toy", {("qk", "v"): Join("qkv", shares=(2, 1))})
    theirs = {"qk": counted(4, 3), "v": counted(2, 3) + 12}
    ours = layout.to_ours(theirs).state
    assert torch.equal(ours["qkv"], counted(6, 3))
    back = layout.to_theirs(ours, one_head).state
    assert {key: value.tolist() for key, value in back.items()} == {k: v.tolist() for k, v in theirs.items()}
    assert "does not have the form" in layout.to_theirs({"qkv": counted(5, 3)}, one_head).broken[0]


@pytest.mark.parametrize(
    ("form", "shape", "ours"),
    [
        (HWIO, (5, 4, 3, 2), (2, 3, 5, 4)),
        (TRANSPOSED, (3, 2), (2, 3)),
        (HEADS_OUT, (6, 2, 4), (8, 6)),
        (HEADS_BIAS, (2, 4), (8,)),
        (HEADS_IN, (2, 4, 6), (6, 8)),
    ],
    ids=lambda value: value.name if isinstance(value, Form) else "",
)
def test_forms_go_both_ways(form: Form, shape: tuple[int, ...], ours: tuple[int, ...]) -> None:
    theirs = counted(*shape)
    assert form.ours(theirs).shape == ours
    assert torch.equal(form.theirs(form.ours(theirs), 2), theirs)


def blocks(architecture: Architecture, count: int) -> list[str]:
    """Edits: so many blocks in each stage of several."""
    return [f"stages.{i}.depth={count}" for i, stage in enumerate(architecture.stages) if stage.depth > 1]


def activations(architecture: Architecture, act: str) -> list[str]:
    """The edit of all feedforwards, if there are some."""
    used = any("feedforward" in stage.used for stage in architecture.stages)
    return [f"stages.*.feedforward.act={act}"] if used else []


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda each: f"{each.origin}-{each.family}-{next(iter(each.table))}")
def test_a_published_table_explains_a_model_both_ways(layout: Layout) -> None:
    """Every tensor of a model that the layout accepts has a key in it and survives a round trip."""
    names = [name for name in list_models() if model_entry(name).family == layout.family]
    acts = ("quick_gelu", "gelu", "gelu_tanh", "hardswish", "relu6")
    # transformers' DeiT with one classifier is of no named model.
    one = [["head.extra_tokens=2"]] if layout.only.get("head.extra_tokens") == ("2",) else []
    architectures = (
        built.override([*activations(built, act), *blocks(built, count), *head])
        for head in ([], *one)
        for name in names
        for built in (model_entry(name).architecture, model_entry(name).architecture.with_(img_size=(192, 192)))
        if not head or built.head.name == "class_token"
        for act in acts
        for count in (3, 4)  # some have pairs of blocks
    )
    architecture = next(each for each in architectures if not layout.unsupported(each))
    state = hexavit.create_model(architecture).state_dict()
    heads = architecture.stages[0].column("attention", 0).options.get("heads", 1)
    written = layout.to_theirs(state, lambda key: int(str(heads)), architecture)
    assert not written.unexplained
    assert not written.broken
    back = layout.to_ours(written.state, architecture)
    assert not back.unexplained
    assert not back.broken
    assert set(back.state) == set(state)
    assert all(torch.equal(back.state[key], state[key]) for key in state)
