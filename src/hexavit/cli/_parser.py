"""The parser of every command: a wrong call is answered by one sentence."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from jsonargparse import ArgumentParser, Namespace

from hexavit.errors import HexavitError, nearest

if TYPE_CHECKING:
    from hexavit.inference import Ready

_TYPES = {"int": "a whole number", "float": "a number", "str": "text"}


class UsageError(HexavitError):
    """An option or argument that is unknown, missing, or of the wrong type."""


class Parser(ArgumentParser):
    """jsonargparse's parser, without abbreviations, and raising :class:`UsageError`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, exit_on_error=False, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UsageError(self._sentence(message)) from ex

    def _sentence(self, message: str) -> str:
        if message.startswith("unrecognized arguments: "):
            unknown = message.split(": ", 1)[1].split()[0]
            if unknown.startswith("-"):
                known = [option for action in self._actions for option in action.option_strings]
                name = unknown.split("=")[0]
                return f"{self.prog} has no option {name!r}: {nearest(name, known)}"
            return f"{self.prog} does not take {unknown!r} as well"
        if wrong := re.fullmatch(r'Parser key "(\w+)":\s*Expected an? (.*?)\.\s+Got value: (.*)', message, re.DOTALL):
            key, kind, value = wrong.groups()
            return f"{self._name(key)} takes {_in_words(kind)}, not {value.strip()!r}"
        if message.startswith("the following arguments are required: "):
            missing = [self._name(key) for key in message.split(": ", 1)[1].split(", ")]
            return f"{self.prog} needs {' and '.join(missing)}"
        if lacking := re.fullmatch(r"argument (\S+): expected (?:at least )?(one|\d+) arguments?", message):
            return f"{lacking[1]} needs {'a value' if lacking[2] == 'one' else lacking[2] + ' values'}"
        return " ".join(message.split())

    def _name(self, key: str) -> str:
        """How the user calls the argument that is stored under ``key``."""
        for action in self._actions:
            if action.dest == key and action.option_strings:
                return action.option_strings[-1]
        return key.upper()


def _in_words(kind: str) -> str:
    if choices := re.findall(r"'([^']*)'", kind) if "Literal" in kind else []:
        return "one of " + ", ".join(choices)
    return next((words for name, words in _TYPES.items() if f"'{name}'" in kind), kind)


def add_json(parser: Parser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON, for a program to read")


def add_overrides(parser: Parser) -> None:
    """Add the repeatable ``--set``."""
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        metavar="PATH=VALUE",
        default=[],
        help="edit the architecture, such as stages.*.attention.stride_kv=1; may be repeated",
    )


def add_run(parser: Parser) -> None:
    """Add what ``evaluate`` and ``predict`` share: the model and its weights, batch size and device."""
    from hexavit.inference.device import Device
    from hexavit.inference.run import Weights

    parser.add_argument(
        "run",
        metavar="RUN",
        type=str,
        help="the folder that `hexavit train` left; or the name of a model with published weights, with a tag or not, "
        "a saved folder, hf-hub:OWNER/NAME, or together with --model a file of weights",
    )
    parser.add_argument("--model", type=str, default=None, help="of which model the weights in a file are")
    parser.add_argument("--untrained", action="store_true", help="use a model that was never trained all the same")
    parser.add_argument("--weights", type=Weights, default="best", help="of a run: of its best or of its last epoch")
    parser.add_argument("--batch-size", type=int, default=64, help="images that go through the model at once")
    parser.add_argument("--device", type=Device, default="auto", help="where to compute")


def open_run(asked: Namespace, *, headless: bool = False) -> Ready:
    """What ``add_run``'s arguments name; what the user should know of it goes to the standard error."""
    from hexavit.inference import open_model

    options: dict[str, Any] = {"model": asked.model, "weights": asked.weights, "untrained": asked.untrained}
    ready = open_model(asked.run, headless=headless, **options)
    for note in ready.notes:
        print(f"note: {note}", file=sys.stderr)
    return ready


def as_dict(parsed: Namespace) -> dict[str, Any]:
    """The parsed arguments by name."""
    return dict(vars(parsed))
