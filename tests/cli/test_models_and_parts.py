"""Browsing parts and comparing models."""

import json
import sys

import pytest

import hexavit
from hexavit.architecture.comparison import compare
from hexavit.cli import main
from hexavit.cli.list import FILTERS
from hexavit.errors import HexavitError
from hexavit.models import resolve
from hexavit.models.catalogue import find_parts, part_page
from hexavit.parts import KINDS, options, part_names
from hexavit.profiling import costs


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    return capsys.readouterr().err


def test_list_by_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert FILTERS == KINDS
    for kind, part in (("attention", "talking_heads"), ("tokens", "tokens_to_token"), ("head", "two_heads")):
        assert ask(capsys, "list", f"--{kind}", part).split() == hexavit.list_models(**{kind: part})
    both = json.loads(ask(capsys, "list", "*nano", "--position", "peg", "--family", "cpvt", "--json"))
    assert both == ["cpvt_nano"]
    assert "did you mean 'performer'?" in error(capsys, "list", "--attention", "perfomer")
    assert "has attention=global, head=two_heads" in error(
        capsys, "list", "vit_*", "--attention", "global", "--head", "two_heads"
    )


def test_the_table_of_models(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal; in a pipe, names alone."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    lines = ask(capsys, "list", "cvt_*").splitlines()
    assert lines[0].split() == ["model", "parameters", "multiply-adds", "pixels", "top-1"]
    assert ["cvt_13", "20.00", "M", "4.566", "G", "224", "81.6%"] in [line.split() for line in lines]
    assert len({len(line) for line in lines}) == 1
    assert ask(capsys, "list", "cvt_*", "--names").split() == hexavit.list_models("cvt_*")
    lines = ask(capsys, "list", "cvt_w24.*", "--weights").splitlines()
    assert lines[2].split() == [
        "cvt_w24.in22k_ft_in1k_384",
        "384",
        "87.6%",
        "apache-2.0",
        "ImageNet-22k,",
        "then",
        "ImageNet-1k",
    ]


def test_a_part_inside_another_is_used_too(capsys: pytest.CaptureFixture[str]) -> None:
    """T2T-ViT's Performer stands inside its tokens, CeiT's class attention inside its head."""
    found = ask(capsys, "list", "--attention", "performer").split()
    assert {"t2t_vit_7", "t2t_vit_14_wide", "localvit_t2t_conv7", "t2t_vit_nano"} <= set(found)
    assert not [name for name in found if name.startswith("t2t_vit_t_")]
    assert "ceit_nano" in hexavit.list_models(attention="class_attention")
    assert "localvit_t2t_conv7" not in hexavit.list_models(feedforward="mlp")
    assert "t2t_vit_7" in part_page("attention", "performer").used_by


def test_list_by_cost(capsys: pytest.CaptureFixture[str]) -> None:
    names = ask(capsys, "list", "vit_*", "--max-params", "22.5M", "--max-macs", "4.6G").split()
    assert {"vit_tiny_patch16_224", "vit_small_patch16_224", "vit_c_1gf", "vit_p_4gf"} <= set(names)
    assert not {"vit_small_patch32_224", "vit_tiny_patch16_384", "vit_base_patch16_224"} & set(names)
    assert ask(capsys, "list", "--weights", "--family", "t2t_vit", "--max-params", "5M").split() == ["t2t_vit_7.in1k"]
    assert ask(capsys, "list", "deit_*", "--max-macs", "1255000000").split() == ["deit_tiny_patch16_224", "deit_nano"]
    assert "no model '*' has max-params=1: leave a filter out" in error(capsys, "list", "--max-params", "1")
    for wrong in ("ten", "10m", "-1", "1e6"):
        printed = error(capsys, "list", f"--max-macs={wrong}")
        assert (
            printed
            == f"error: --max-macs takes a number, plain or with the suffix k, M or G, such as 10M, not {wrong!r}\n"
        )


def test_costs_of_the_table_are_what_is_counted() -> None:
    for name, found in costs(["cvt_nano", "deit_nano", "swin_nano", "pvt_v2_nano"]).items():
        counted = hexavit.profile(name)
        assert found == (counted.parameters, counted.macs), f"{name}: run docs/tables.py"


@pytest.mark.slow
def test_all_costs_of_the_table_are_what_is_counted() -> None:
    for name, found in costs(hexavit.list_models()).items():
        counted = hexavit.profile(name)
        assert found == (counted.parameters, counted.macs), f"{name}: run docs/tables.py"


def test_show_two(capsys: pytest.CaptureFixture[str]) -> None:
    printed = ask(capsys, "show", "deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224")
    assert printed.splitlines()[0].split() == [
        "column",
        "where",
        "deit_tiny_patch16_224",
        "deit_tiny_distilled_patch16_224",
    ]
    assert printed.splitlines()[2].split() == ["head", "head", "class_token", "two_heads"]
    # The second token and head: 192 of the token, 192 of its position, 193,000 of its head.
    assert printed.splitlines()[6].split() == ["parameters", "5.717", "M", "5.911", "M", "+3.4%"]
    assert printed.splitlines()[7].split()[-1] == "+0.6%"
    read, *cost = json.loads(ask(capsys, "show", "cpvt_nano", "cpvt_nano", "--set", "head=pool", "--json"))
    assert read == {"column": "head", "path": "head", "here": "pool", "there": "class_token"}
    assert [(each["column"], each["path"]) for each in cost] == [
        ("cost", name) for name in ("parameters", "multiply-adds", "activation bytes")
    ]
    assert cost[0]["there"] - cost[0]["here"] == 96  # the class token
    *_, parameters, _, _ = json.loads(
        ask(capsys, "show", "deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "--json")
    )
    assert (parameters["here"], parameters["there"]) == (5_717_416, 5_910_800)  # facebookresearch/deit's builders
    assert parameters["difference"] == pytest.approx(5_910_800 / 5_717_416 - 1)
    assert json.loads(ask(capsys, "show", "cvt_nano", "cvt_nano", "--json")) == []
    assert "make the same choices" in ask(capsys, "show", "cvt_nano", "cvt_nano")


def test_differences_come_by_column() -> None:
    found = [each.column for each in compare(resolve("cait_nano"), resolve("cvt_nano"))]
    assert found == sorted(found, key=("size", *KINDS).index)


def test_parts(capsys: pytest.CaptureFixture[str]) -> None:
    printed = ask(capsys, "parts")
    for kind in KINDS:
        for name in part_names(kind):
            assert f"\n{kind:<11}  {name:<21}  " in printed, (kind, name)
    printed = ask(capsys, "parts", "peg")
    assert "Chu et al., ICLR 2023" in printed
    assert "kernel  3        a whole number" in printed
    assert "used by: cpvt_tiny" in printed
    (read,) = json.loads(ask(capsys, "parts", "attention.performer", "--json"))
    assert read["options"]["heads"] == {"takes": "a whole number", "default": "required"}
    assert "did you mean 'peg'?" in error(capsys, "parts", "pegg")


def test_every_page_is_whole() -> None:
    for page in find_parts():
        assert page.summary
        assert [each.name for each in page.options] == list(options(page.kind, page.name))
    assert part_page("residual", "post_norm").used_by == ()
    with pytest.raises(HexavitError, match="there is no kind of part 'atention'"):
        part_page("atention", "global")
