"""From arguments to a command and its exit status; a command's file is imported when it is called."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

from hexavit.cli._imports import import_own
from hexavit.errors import HexavitError, nearest

COMMANDS = {
    "demo": "train a small CvT on handwritten digits, and predict some",
    "list": "the models there are",
    "show": "a model as a table of six columns, its figures published and counted; or two models compared",
    "parts": "the shelves, or one part with its options and who uses it",
    "profile": "what a model costs, by stage and by kind of part",
    "inspect": "what a file of weights is, and what else is in it",
    "convert": "write a file of weights in another layout",
    "data": "check a data set before training on it",
    "train": "train a model on images",
    "evaluate": "judge a trained model on images whose classes are known",
    "probe": "judge a model's features: nearest neighbours and a linear classifier on them",
    "runs": "compare the runs in a folder",
    "predict": "the classes of images, by a trained model",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the process's arguments by default.

    Returns:
        The exit status: 0, or 2 after a refusal, whose one sentence goes to the standard error, or 130 after an
        interrupt, or 143 after a training was told to go.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text at all
    # Waiting threads that spin take the cores from whoever works on them; PyTorch reads this when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        _dispatch(arguments)
        sys.stdout.flush()
    except SystemExit as leaving:  # after --help, or a SIGTERM
        code = int(leaving.code or 0)
        return _leave_at_once(code) if argv is None and code > 128 else code
    except HexavitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _leave_at_once(130) if argv is None else 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _leave_at_once(code: int) -> int:
    """End the process that a signal has told to go: taking down all that PyTorch made can take Python ten seconds."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _dispatch(arguments: Sequence[str]) -> None:
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(_help())
    elif arguments[0] == "--version":
        print(f"hexavit {version('hexavit')}")
    elif arguments[0] in COMMANDS:
        name, *rest = arguments
        rest = import_own(rest)
        command = import_module(f"hexavit.cli.{name}")
        from hexavit.cli._parser import Parser

        parser = Parser(prog=f"hexavit {name}", description=command.__doc__)
        command.add_arguments(parser)
        command.run(parser, rest)
    elif arguments[0].startswith("-"):
        raise HexavitError(f"there is no option {arguments[0]!r}: {nearest(arguments[0], ['--help', '--version'])}")
    else:
        raise HexavitError(f"there is no command {arguments[0]!r}: {nearest(arguments[0], COMMANDS)}")


def _help() -> str:
    commands = "\n".join(f"  {name:<10}{text}" for name, text in COMMANDS.items())
    return (
        "usage: hexavit COMMAND ...\n\n"
        "Vision transformers as six choices: look at them, train them, use them.\n\n"
        f"commands:\n{commands}\n\n"
        "options:\n  --help    this text; after a command, its own\n  --version the version\n"
        "  --import  after a command: a module or .py file with parts of your own; may be repeated"
    )
