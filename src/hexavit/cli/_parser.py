"""The parser of every command: a wrong call is answered by one sentence."""

from __future__ import annotations

import re
import sys
from argparse import SUPPRESS, HelpFormatter
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from jsonargparse import ArgumentParser, Namespace

from hexavit.errors import HexavitError, nearest

if TYPE_CHECKING:
    from hexavit.inference import Ready

_TYPES = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}
_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?")


class UsageError(HexavitError):
    """An option or argument that is unknown, missing, or of the wrong type."""


class _Help(HelpFormatter):
    """What an option is, and its default where there is one to tell."""

    def _get_help_string(self, action: Any) -> str:
        text, default = action.help or "", action.default
        untold = default is None or isinstance(default, bool | list) or default == SUPPRESS or not action.option_strings
        return text if untold or "default" in text else f"{text} (default: {default})"


class Parser(ArgumentParser):
    """jsonargparse's parser, without abbreviations, and raising :class:`UsageError`. Arguments and options may stand in
    any order, and a value may begin with a minus."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, exit_on_error=False, formatter_class=_Help, **options)
        self.add_argument(  # known to the help; `import_own` takes it out before
            "--import", metavar="MODULE", type=str, default=None, help="a module or .py file with parts of your own"
        )

    def parse_args(  # type: ignore[override]  # argparse declares many forms of it
        self, args: Sequence[str] | None = None, *rest: Any, **options: Any
    ) -> Namespace:
        return super().parse_args(self._ordered(sys.argv[1:] if args is None else args), *rest, **options)

    def _ordered(self, arguments: Sequence[str]) -> list[str]:
        """Options with their values, and behind them what is none."""
        known = self._option_string_actions
        left, options, others = deque(arguments), list[str](), list[str]()
        while left:
            word = left.popleft()
            action = known.get(word)
            if word == "--":
                others += left
                break
            if action is None:
                (options if word.startswith("-") and word != "-" else others).append(word)
            elif action.nargs == 0 or not left or left[0] in known or left[0].startswith("--"):
                options.append(word)
            elif action.nargs is None:
                options.append(f"{word}={left.popleft()}")
            else:
                options.append(word)
                if action.nargs == "+" or left[0] in ("true", "false"):
                    options.append(left.popleft())
                while action.nargs == "+" and left and _NUMBER.fullmatch(left[0]):
                    options.append(left.popleft())
        return [*options, "--", *others] if others else options

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
        if wrong := re.fullmatch(
            r'Parser key "(\w+)"(?: element \d+)?:\s*Expected an? (.*?)\.\s+Got value: (.*)', message, re.DOTALL
        ):
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


def add_img_size(parser: Parser, text: str) -> None:
    """Add ``--img-size``, which :func:`img_size_of` reads."""
    parser.add_argument("--img-size", type=int, nargs="+", metavar="PIXELS", default=None, help=text)


def img_size_of(asked: Namespace) -> Any:
    """A side or (H, W), where one was given; more than that is refused by who takes it."""
    given = asked.img_size
    return None if given is None else given[0] if len(given) == 1 else tuple(given)


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
    from hexavit.runs.run_folder import Weights

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
