"""The argument parser of every command: argparse, with options in any order and one-sentence errors."""

from __future__ import annotations

import argparse
import re
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from hexavit.errors import HexavitError, RunError, nearest

if TYPE_CHECKING:
    from hexavit.architecture import Architecture
    from hexavit.inference import LoadedModel, Predictor

MODEL = "model name, as in `hexavit list`; run folder; or saved model folder"
"""Help of an argument that :func:`architecture_of` reads."""

_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?")


class UsageError(HexavitError):
    """An option or argument that is unknown, missing, or of the wrong type."""


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises :class:`UsageError` with one sentence.

    Options and arguments may come in any order, options are never abbreviated, and a value may begin with a minus.

    Args:
        prog: command as the user types it, such as ``hexavit train``.
        description: first paragraph of the help.
    """

    def __init__(self, prog: str, description: str | None) -> None:
        self._known: dict[str, argparse.Action] = {}
        self._sections: dict[str, Any] = {}
        self._usage = ["%(prog)s [OPTION ...]"]
        super().__init__(prog=prog, description=description, allow_abbrev=False)
        self.add_argument(  # in the help only: `import_own` removes it before parsing
            "--import",
            metavar="MODULE",
            default=argparse.SUPPRESS,
            help="Python module or .py file to import first, with parts of your own",
        )

    def add_argument(self, *names: str, section: str | None = None, **options: Any) -> argparse.Action:
        """As argparse, with these differences.

        Args:
            names: an argument's name, or the option's strings.
            section: heading of the help under which the option is listed.
            options: ``type`` may be a ``Literal``; a default is appended to the help unless the help mentions one.
        """
        kind = options.get("type")
        if kind is not None:
            options["type"] = _checked(kind)
            choices = get_args(kind)
            options.setdefault("metavar", "{" + ",".join(choices) + "}" if choices else _METAVARS.get(kind))
        default, text = options.get("default"), options.get("help") or ""
        if isinstance(default, str | int | float) and not isinstance(default, bool) and default != argparse.SUPPRESS:
            options["help"] = text = text if "default" in text else f"{text} (default: {default})"
        if text != argparse.SUPPRESS:
            options["help"] = text.replace("%", "%%")
        if section is None:
            action: argparse.Action = super().add_argument(*names, **options)
        else:
            if section not in self._sections:
                self._sections[section] = self.add_argument_group(section)
            action = self._sections[section].add_argument(*names, **options)
        self._known |= dict.fromkeys(action.option_strings, action)
        if not action.option_strings:
            shape = {"?": "[{}]", "+": "{0} [{0} ...]"}.get(str(action.nargs), "{}")
            self._usage.append(shape.format(action.metavar))
        return action

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse a command's arguments.

        Raises:
            UsageError: unknown, missing or ill-typed option or argument.
        """
        self.usage = " ".join(self._usage)
        return self.parse_args(self._ordered(arguments))

    def _ordered(self, arguments: Sequence[str]) -> list[str]:
        """Each option joined to its value, then ``--``, then everything else."""
        left, options, others = deque(arguments), list[str](), list[str]()
        while left:
            word = left.popleft()
            if word == "--":
                others += left
                break
            name, sign, _ = word.partition("=")
            action = self._known.get(name)
            if not word.startswith("-") or word == "-":
                others.append(word)
            elif action is None:
                raise UsageError(f"{self.prog} has no option {name!r}: {nearest(name, self._known)}")
            elif sign and action.nargs == 0:
                raise UsageError(f"{name} takes no value")
            elif sign or action.nargs == 0:
                options.append(word)
            elif action.nargs == "?":  # the value only where it is one: DATA may follow
                options.append(f"{name}={left.popleft() if left and left[0] in _BOOLEANS else 'true'}")
            elif not left or left[0] in self._known or left[0].startswith("--"):
                raise UsageError(f"{name} needs a value")
            elif action.nargs == "+" and _NUMBER.fullmatch(left[0]):
                options.append(name)
                while left and _NUMBER.fullmatch(left[0]):
                    options.append(left.popleft())
            else:
                options.append(f"{name}={left.popleft()}")
        return [*options, "--", *others] if others else options

    def error(self, message: str) -> NoReturn:
        """Raise argparse's error as one sentence."""
        if message.startswith("unrecognized arguments: "):
            first = next(each for each in message.split(": ", 1)[1].split() if each != "--")
            raise UsageError(f"{self.prog} does not take another argument {first!r}")
        if message.startswith("the following arguments are required: "):
            raise UsageError(f"{self.prog} needs {' and '.join(message.split(': ', 1)[1].split(', '))}")
        raise UsageError(re.sub(r"^argument (\S+): ", r"\1 ", " ".join(message.split())))


_BOOLEANS = {"true": True, "false": False}
_METAVARS: dict[Any, str] = {int: "N", float: "X", bool: "{true,false}"}
_WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false"}


def _checked(kind: Any) -> Callable[[str], Any]:
    """A converter of text to ``int``, ``float``, ``bool``, ``str`` or a ``Literal``, whose error says what is valid."""
    choices = get_args(kind)
    expected = "one of " + ", ".join(choices) if choices else _WORDS.get(kind, "text")

    def convert(text: str) -> Any:
        try:
            if choices:
                return choices[choices.index(text)]
            value = _BOOLEANS[text] if kind is bool else kind(text)
            if kind is int and abs(value) > sys.maxsize:
                raise argparse.ArgumentTypeError(f"takes whole numbers of at most 64 bits, not {text}")
            return value
        except (KeyError, ValueError):
            raise argparse.ArgumentTypeError(f"takes {expected}, not {text!r}") from None

    return convert


def add_json(parser: Parser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def add_img_size(parser: Parser, text: str) -> None:
    """Add ``--img-size``, which :func:`img_size_of` reads."""
    parser.add_argument("--img-size", type=int, nargs="+", metavar="PIXELS", default=None, help=text)


def img_size_of(args: argparse.Namespace) -> Any:
    """One side or a tuple of sides, or None; the caller checks their number."""
    given = args.img_size
    return None if given is None else given[0] if len(given) == 1 else tuple(given)


def add_overrides(parser: Parser, **options: Any) -> None:
    """Add the repeatable ``--set``."""
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        metavar="PATH=VALUE",
        help="change the architecture, such as stages.*.attention.stride_kv=1; may be repeated",
        **{"default": [], **options},
    )


def architecture_of(source: str, **options: Any) -> Architecture:
    """Architecture of a model.

    Args:
        source: model name, run folder of ``hexavit train``, or folder of ``save_pretrained``.
        options: ``img_size`` and ``overrides``, as :func:`hexavit.create_model` takes them.

    Raises:
        HexavitError: there is no such model or folder, or the folder holds no valid architecture.
    """
    from hexavit.architecture import Architecture
    from hexavit.models import list_models, resolve

    folder = Path(source)
    if not source or source.partition(".")[0] in list_models() or not (folder.exists() or "/" in source):
        return resolve(source, **options)
    try:
        text = (folder / "architecture.json").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise RunError(
            f"{source}: this is neither a model name, nor a run folder or saved model folder with an architecture.json"
        ) from None
    try:
        architecture = Architecture.from_json(text)
    except HexavitError as error:
        raise RunError(f"{folder / 'architecture.json'}: {error}") from error
    return resolve(architecture, **options)


def add_overwrite(parser: Parser, what: str) -> None:
    """Add ``--overwrite``."""
    parser.add_argument("--overwrite", action="store_true", help=f"replace {what}, if there already")


def check_output(path: str | None, *endings: str, overwrite: bool) -> None:
    """Check an output path before any work is done.

    Args:
        path: file or folder to write; None for no output.
        endings: valid suffixes; none to accept any.
        overwrite: accept a file, or a folder that is not empty, that exists.

    Raises:
        RunError: the suffix is not valid, or the path exists.
    """
    from hexavit.files import check_ending

    if path is None:
        return
    if endings:
        check_ending(path, *endings)
    place = Path(path)
    if not overwrite and (place.is_file() or (place.is_dir() and any(place.iterdir()))):
        raise RunError(f"{path}: this already exists; pass --overwrite to replace it")


def add_model_source(parser: Parser, *, batches: bool = True) -> None:
    """Add the options of ``evaluate``, ``probe``, ``predict`` and ``explain`` that say which model runs, and where;
    ``batches`` adds the number of images at a time."""
    from hexavit.inference.device import Device
    from hexavit.inference.engines import EngineChoice
    from hexavit.run_paths import Weights

    parser.add_argument(
        "run",
        metavar="MODEL",
        help="run folder of `hexavit train`, exported file (.onnx, .xml, .pt2), name of a model with published weights "
        "(MODEL or MODEL.TAG), saved model folder, hf-hub:OWNER/NAME, or weight file together with --model",
    )
    parser.add_argument(
        "--engine",
        type=EngineChoice,
        default="auto",
        help="what computes: PyTorch, or an engine that the model is exported for once; by default, for 2,000 images "
        "and more on a CPU, OpenVINO or ONNX Runtime if installed",
    )
    parser.add_argument(
        "--allow-compiled", action="store_true", help="open a .pt2 that holds machine code, which runs unchecked"
    )
    parser.add_argument("--model", default=None, metavar="NAME", help="model to which a weight file belongs")
    parser.add_argument("--untrained", action="store_true", help="allow a model with random weights")
    parser.add_argument("--weights", type=Weights, default="best", help="weights of a run: best or last epoch")
    if batches:
        parser.add_argument("--batch-size", type=int, default=64, help="images per forward pass")
    parser.add_argument("--device", type=Device, default="auto", help="device to compute on")


def add_labelled_data(parser: Parser, part: Any, part_help: str) -> None:
    """Add the options of ``evaluate`` and ``probe`` that say which images are read, and how.

    Args:
        parser: the parser.
        part: the ``Literal`` of the splits.
        part_help: help text of ``--part``.
    """
    from hexavit.data.source import OnBadImage

    parser.add_argument("--data", metavar="DATA", required=True, help="data set, as in `hexavit train --data`")
    parser.add_argument("--part", type=part, default="auto", help=part_help)
    parser.add_argument("--workers", type=int, help="threads that decode images; by default chosen automatically")
    parser.add_argument(
        "--on-bad-image", type=OnBadImage, default="error", help="unreadable images: stop with an error, or skip them"
    )


def add_optimize(parser: Parser) -> None:
    """Add ``--optimize`` and ``--no-optimize``."""
    parser.add_argument(
        "--optimize",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="replace modules by faster ones, measured on this CPU; by default for 2,000 images and more",
    )


def load_source(args: argparse.Namespace, *, headless: bool = False) -> LoadedModel:
    """Load the model that :func:`add_model_source`'s options describe, and print its notes to standard error."""
    from hexavit.inference import load_model

    options: dict[str, Any] = {"model": args.model, "weights": args.weights, "untrained": args.untrained}
    loaded = load_model(args.run, headless=headless, **options)
    for sentence in loaded.notes:
        note(sentence)
    return loaded


def load_model_or_file(args: argparse.Namespace, *, headless: bool = False) -> LoadedModel | Predictor:
    """As :func:`load_source`, but an exported file is opened in its engine."""
    from hexavit.inference.exported_file import is_exported
    from hexavit.inference.predictor import as_predictor

    if not is_exported(args.run) or args.model is not None:
        return load_source(args, headless=headless)
    return as_predictor(args.run, engine=args.engine, allow_compiled=args.allow_compiled)


def note(sentence: str) -> None:
    """Print a sentence that the user should read to standard error."""
    print(f"note: {sentence}", file=sys.stderr)
