"""Entry point of ``hexavit``: dispatch to a command, and its exit status. Only the called command is imported."""

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
    "demo": "train a small CvT on handwritten digits and predict some",
    "list": "list the models: parameters, multiply-adds, image size, accuracy",
    "show": "show a model as a table of six columns, or compare two models",
    "parts": "list the parts, or show the options of one and the models that use it",
    "profile": "count a model's parameters, multiply-adds and activation bytes",
    "inspect": "show what a weight file holds: layout, model, image size, classes",
    "convert": "write a weight file in another layout",
    "data": "check a data set before training, or download a public one",
    "recipes": "list the recipes for `train`, or show one",
    "label-maps": "make label maps of a data set with a teacher, for train --label-maps",
    "train": "train a model on images",
    "evaluate": "evaluate a trained model on labelled images",
    "probe": "evaluate a model's features with k-NN and a linear classifier",
    "runs": "compare the runs in a folder",
    "compare": "compare the cost, speed and memory of models without training",
    "benchmark": "measure models beside other libraries and on several engines",
    "study": "train variants of a model with several seeds and compare them",
    "predict": "predict the classes of images",
    "explain": "show what a model looks at in images: attention, rollout, class activation maps",
    "export": "write a model for ONNX Runtime, OpenVINO or torch.export",
    "app": "show models, runs and studies in the browser",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; None for those of the process.

    Returns:
        The exit status: 0; 1 if some of the images could not be read; 2 after an error, which is printed to standard
        error as one sentence; 130 after an interrupt; 143 after a SIGTERM during training.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may not be valid text
    # Idle OpenMP threads must not spin on cores that other threads need; PyTorch reads this when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        _dispatch(arguments)
        sys.stdout.flush()
    except SystemExit as exit_:  # after --help, or a SIGTERM
        code = int(exit_.code or 0)
        return _exit_at_once(code) if argv is None and code > 128 else code
    except HexavitError as error:
        sentence = str(error).replace("\n", "\\n")  # a file name may have line breaks
        print(f"error: {sentence}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _exit_at_once(130) if argv is None else 130
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # such as a full disk
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{error.strerror or error}", file=sys.stderr)
        return 2
    return 0


def _exit_at_once(code: int) -> int:
    """End the process after a signal without Python's clean-up, which can take ten seconds with PyTorch loaded."""
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
        command = import_module(f"hexavit.cli.{name.replace('-', '_')}")
        from hexavit.cli._parser import Parser

        parser = Parser(prog=f"hexavit {name}", description=command.__doc__)
        command.add_arguments(parser)
        command.run(parser.parse(rest))
    elif arguments[0].startswith("-"):
        raise HexavitError(f"there is no option {arguments[0]!r}: {nearest(arguments[0], ['--help', '--version'])}")
    else:
        raise HexavitError(f"there is no command {arguments[0]!r}: {nearest(arguments[0], COMMANDS)}")


def _help() -> str:
    commands = "\n".join(f"  {name:<11}{text}" for name, text in COMMANDS.items())
    return (
        "usage: hexavit COMMAND ...\n\n"
        "Vision transformers as six choices: inspect them, train them, use them.\n\n"
        f"commands:\n{commands}\n\n"
        "options:\n"
        "  --help    this text; after a command, the help of that command\n"
        "  --version the version\n"
        "  --import  after a command: import a module or .py file with parts of your\n"
        "            own first; may be repeated"
    )
