"""Browsing parts and comparing models."""

import json

import pytest

import hexavit
from hexavit.catalogue import find_parts, part_page
from hexavit.cli import main
from hexavit.cli.list import FILTERS
from hexavit.comparison import compare
from hexavit.errors import HexavitError
from hexavit.models import resolve
from hexavit.parts import KINDS, options, part_names


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    return capsys.readouterr().err


def test_list_by_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert FILTERS == KINDS
    for kind, part in (("attention", "talking_heads"), ("tokens", "tokens_to_token"), ("head", "two_heads")):
        assert ask(capsys, "list", f"--{kind}", part).split() == hexavit.list_models(**{kind: part})
    both = json.loads(ask(capsys, "list", "*nano", "--position", "peg", "--family", "cpvt", "--json"))
    assert both == ["cpvt_nano"]
    assert "did you mean 'performer'?" in refusal(capsys, "list", "--attention", "perfomer")
    assert "has attention=global, head=two_heads" in refusal(
        capsys, "list", "vit_*", "--attention", "global", "--head", "two_heads"
    )


def test_show_two(capsys: pytest.CaptureFixture[str]) -> None:
    told = ask(capsys, "show", "deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224")
    assert told.splitlines()[0].split() == [
        "column",
        "where",
        "deit_tiny_patch16_224",
        "deit_tiny_distilled_patch16_224",
    ]
    assert told.splitlines()[2].split() == ["head", "head", "class_token", "two_heads"]
    assert len(told.splitlines()) == 3
    (read,) = json.loads(ask(capsys, "show", "cpvt_nano", "cpvt_nano", "--set", "head=pool", "--json"))
    assert read == {"column": "head", "path": "head", "here": "pool", "there": "class_token"}
    assert "make the same choices" in ask(capsys, "show", "cvt_nano", "cvt_nano")


def test_differences_come_by_column() -> None:
    found = [each.column for each in compare(resolve("cait_nano"), resolve("cvt_nano"))]
    assert found == sorted(found, key=("size", *KINDS).index)


def test_parts(capsys: pytest.CaptureFixture[str]) -> None:
    told = ask(capsys, "parts")
    for kind in KINDS:
        for name in part_names(kind):
            assert f"\n{kind:<11}  {name:<21}  " in told, (kind, name)
    told = ask(capsys, "parts", "peg")
    assert "Chu et al., ICLR 2023" in told
    assert "kernel  3        a whole number" in told
    assert "used by: cpvt_tiny" in told
    (read,) = json.loads(ask(capsys, "parts", "attention.performer", "--json"))
    assert read["options"]["heads"] == {"takes": "a whole number", "default": "required"}
    assert "did you mean 'peg'?" in refusal(capsys, "parts", "pegg")


def test_every_page_is_whole() -> None:
    for page in find_parts():
        assert page.summary
        assert [each.name for each in page.options] == list(options(page.kind, page.name))
    assert part_page("residual", "post_norm").used_by == ()
    with pytest.raises(HexavitError, match="there is no shelf 'atention'"):
        part_page("atention", "global")
