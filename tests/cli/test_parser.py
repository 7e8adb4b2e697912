"""The parser of every command: order of arguments, types, and what it leaves out."""

from typing import Literal

import pytest

from hexavit.cli._parser import Parser, UsageError


@pytest.fixture
def parser() -> Parser:
    made = Parser("hexavit try", "Try.")
    made.add_argument("first", metavar="FIRST")
    made.add_argument("rest", metavar="REST", nargs="+")
    made.add_argument("--rate", type=float, default=0.5, help="learning rate, 5 % of it")
    made.add_argument("--size", type=int, nargs="+")
    made.add_argument("--fast", type=bool, nargs="?", default=False, help="be fast")
    made.add_argument("--how", type=Literal["well", "badly"], default="well", section="more")
    made.add_argument("--json", action="store_true")
    made.add_argument("-0", "--null", action="store_true")
    return made


@pytest.mark.parametrize(
    "given",
    [
        "a b --rate -1 --size 3 4 --fast --how badly --json",
        "--size 3 4 a --fast b --json --rate=-1 --how=badly",
        "--json --fast=true --rate -1 --how badly --size 3 4 -- a b",
        "--fast true --rate -1 a --how badly --json b --size 3 4",
    ],
)
def test_any_order(parser: Parser, given: str) -> None:
    found = parser.parse(given.split())
    assert (found.first, found.rest, found.rate, found.size) == ("a", ["b"], -1.0, [3, 4])
    assert (found.fast, found.how, found.json, found.null) == (True, "badly", True, False)


def test_defaults_and_words_with_a_minus(parser: Parser) -> None:
    found = parser.parse(["-", "-0", "--", "--json", "-x"])
    assert (found.first, found.rest, found.null, found.rate, found.fast) == ("-", ["--json", "-x"], True, 0.5, False)
    assert not hasattr(found, "import")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("", "hexavit try needs FIRST and REST"),
        ("a --rate", "--rate needs a value"),
        ("a --rate --json", "--rate needs a value"),
        ("a --rate x", "--rate takes a number, not 'x'"),
        ("a --size -inf", "--size takes a whole number, not '-inf'"),
        ("a --size 3.5", "--size takes a whole number, not '3.5'"),
        ("a --size 99999999999999999999", "--size takes whole numbers of at most 64 bits, not 99999999999999999999"),
        ("a --fast=yes", "--fast takes true or false, not 'yes'"),
        ("a --how so", "--how takes one of well, badly, not 'so'"),
        ("a --jso", "hexavit try has no option '--jso': did you mean '--json'?"),
        ("a --ra 1", "hexavit try has no option '--ra': did you mean '--rate'?"),
        ("a -1", "hexavit try has no option '-1': "),
        ("a --json=1", "--json takes no value"),
    ],
)
def test_errors(parser: Parser, given: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        parser.parse(given.split())
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_help(parser: Parser, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser.parse(["--help"])
    text = capsys.readouterr().out
    assert text.startswith("usage: hexavit try [OPTION ...] FIRST REST [REST ...]\n")
    assert "learning rate, 5 % of it (default: 0.5)" in text
    assert "\nmore:\n  --how {well,badly}  " in text
    assert "be fast\n" in text  # False is no default worth printing
