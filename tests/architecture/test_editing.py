"""Edits by paths: every one builds and trains, or raises an error that names the nearest valid choice."""

import pytest
import torch

import hexavit
from hexavit import Architecture, Part, Pattern, Stage
from hexavit.errors import ArchitectureError
from hexavit.models import model_entry

CVT = model_entry("cvt_13").architecture


def test_an_option_of_every_stage() -> None:
    edited = CVT.override(["stages.*.attention.stride_kv=1"])
    assert [stage.column("attention").options["stride_kv"] for stage in edited.stages] == [1, 1, 1]
    assert CVT.stages[0].column("attention").options["stride_kv"] == 2


def test_a_replaced_part_keeps_required_options_only() -> None:
    edited = CVT.override(["stages.2.attention=global(qkv_bias=false)"])
    assert edited.stages[2].attention == Part("global", heads=6, qkv_bias=False)
    assert CVT.override(["head=pool"]).head == Part("pool")


def test_blocks_make_patterns_and_patterns_take_options() -> None:
    edited = CVT.override(["stages.2.blocks.-1.attention=global", "stages.2.blocks.0.attention.stride_kv=1"])
    assert isinstance(edited.stages[2].attention, Pattern)
    assert [edited.stages[2].column("attention", k).name for k in (0, 8, 9)] == ["conv_projection"] * 2 + ["global"]
    assert edited.stages[2].column("attention", 0).options["stride_kv"] == 1
    everywhere = edited.override(["stages.2.attention.qkv_bias=false", "stages.2.attention.stride_kv=3"])
    assert all(everywhere.stages[2].column("attention", k).options["qkv_bias"] is False for k in range(10))
    assert everywhere.stages[2].column("attention", 9) == Part("global", heads=6, qkv_bias=False)
    assert everywhere.stages[2].column("attention", 0).options["stride_kv"] == 3
    assert everywhere.override(["stages.2.blocks.9.attention=conv_projection"]).stages[2].column("attention", -1 % 10)
    whole = edited.override(["stages.2.attention=global"])
    assert whole.stages[2].attention == Part("global", heads=6)


def test_no_part_stays_that_no_block_has() -> None:
    every = CVT.override(["stages.*.blocks.*.attention=global"])
    assert every.stages == CVT.override(["stages.*.attention=global"]).stages
    unlike = CVT.override(["stages.1.blocks.0.attention=global", "stages.1.blocks.1.attention.stride_kv=1"])
    assert unlike.stages[1].attention == Pattern([unlike.stages[1].column("attention", k) for k in range(2)])


def test_mapping_and_fields() -> None:
    edited = CVT.override(
        {"head": Part("pool", norm=False), "stages.0.dim": 32, "img_size": (64, 96), "norm_eps": 1e-6}
    )
    assert (edited.head.options, edited.stages[0].dim, edited.img_size) == ({"norm": False}, 32, (64, 96))
    assert CVT.override("head=pool").head.name == "pool"
    assert CVT.override(["stages.0.position=none"]) == CVT


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        ("stages.2.atention=global", "a stage has no 'atention': did you mean 'attention'?"),
        ("stages.2.attention=globl", "there is no attention 'globl': did you mean 'global'"),
        (
            "stages.2.attention.stride_kw=1",
            "attention 'conv_projection' has no option 'stride_kw': did you mean 'stride_kv'?",
        ),
        ("stages.7.dim=3", "there is no stages.7, only 0 to 2"),
        ("stages.x.dim=3", "stages are numbered, or * for all, not 'x'"),
        ("stages.2=3", "stops too early"),
        ("stages.2.blocks.0.tokens=keep", "names no column of a block"),
        ("stages.2.blocks.0=keep", "names no column of a block"),
        ("stages.2.blocks.99.attention=global", "there is no blocks.99, only 0 to 9"),
        ("stages.2.attention.heads=three", "stages.2.attention.heads takes a whole number, not 'three'"),
        ("stages.*.attention.method=dwbn", "takes 'dw_bn' or 'avg' or 'linear', not 'dwbn'"),
        ("stages.0.attention=conv_projection(3)", "write the options by name"),
        ("stages.0.attention=global(heads=", "there is no attention 'global(heads='"),
        ("stages.0.attention=global(heads==1)", "write the options by name"),
        ("stages.0.attention=global(heads 1)", "is not name(option=value, ...)"),
        ("stages.0.attention=3", "takes a part, as in name or name(option=value), not 3"),
        ("hed=pool", "an architecture has no 'hed': did you mean 'head'?"),
        ("norm_eps", "an edit is path=value"),
        ("norm_eps=none", "norm_eps takes a value, not none"),
        ("norm_eps=inf", "norm_eps is a number above 0 and below 1, not 'inf'"),
        ("stages.0.position=learned(heads=3)", "position 'learned' has no option 'heads'"),
        ("stages.0.attention=global(head_dim=4, heads=true)", "heads takes a whole number, not True"),
    ],
)
def test_invalid_edit_raises_one_sentence(edit: str, sentence: str) -> None:
    with pytest.raises(ArchitectureError) as error:
        CVT.override([edit])
    assert sentence in str(error.value)


def test_a_required_option_must_be_given() -> None:
    stage = Stage(8, 1, Part("conv", kernel=4, stride=4), Part("conv_projection"))
    bare = Architecture("mine", (stage,), Part("pool"))
    with pytest.raises(ArchitectureError, match="needs heads, as in global"):
        bare.override({"stages.0.attention": Part("global")})


PAPER_ABLATIONS = [
    ["stages.*.position=learned"],
    ["stages.0.position=learned"],
    ["stages.2.position=learned"],
    ["stages.0.tokens=conv(kernel=4,stride=4)", "stages.1.tokens=conv(kernel=2,stride=2)"],
    ["head=pool"],
    ["stages.*.attention.method=linear"],
    ["stages.*.attention.method=avg"],
    ["stages.*.attention.stride_kv=1"],
    ["stages.*.attention.kernel=5", "stages.*.attention.padding_q=2", "stages.*.attention.padding_kv=2"],
    ["stages.2.blocks.0.attention.stride_q=2"],
    ["stages.*.attention.share_kv=true", "stages.*.attention.scale=head_dim"],
    ["stages.2.attention=global"],
    ["stages.*.residual=post_norm", "head=class_token(norm=false)"],
    ["stages.*.position=sine_cosine"],
    ["init=xavier"],
]


@pytest.mark.parametrize("edits", PAPER_ABLATIONS, ids=" ".join)
def test_edits_build_and_train(edits: list[str]) -> None:
    torch.manual_seed(0)
    model = hexavit.create_model("cvt_nano", num_classes=3, overrides=edits)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    images, labels = torch.randn(6, 3, 32, 32), torch.arange(6) % 3
    losses = []
    for _ in range(5):
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("edit", [3, None, ("stages.0.depth", 2)])
def test_an_edit_that_is_no_string_is_named(edit: object) -> None:
    with pytest.raises(ArchitectureError, match="an edit is a string path=value, as in"):
        model_entry("cvt_nano").architecture.override([edit])
