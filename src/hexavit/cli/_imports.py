"""The option ``--import``: Python modules of the user that register parts of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from hexavit.errors import HexavitError


def import_own(arguments: Sequence[str]) -> list[str]:
    """Import the value of each ``--import`` (a module name or a .py file).

    Returns:
        The other arguments.

    Raises:
        HexavitError: the value is missing, or the module is not found or fails.
    """
    left: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        option, sign, value = argument.partition("=")
        if option == "--import":
            _import(value if sign else next(waiting, ""))
        else:
            left.append(argument)
    return left


def _import(name: str) -> None:
    if not name:
        raise HexavitError("--import needs a module name or a .py file")
    try:
        if name.endswith(".py"):
            _run_file(Path(name))
        else:
            sys.path.insert(0, os.getcwd())  # as `python -m` does
            import_module(name)
    except Exception as error:
        raise HexavitError(f"--import {name}: {type(error).__name__}: {' '.join(str(error).split())}") from error


def _run_file(path: Path) -> None:
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = module_from_spec(spec)
    sys.modules[path.stem] = module  # pickle looks its classes up here
    spec.loader.exec_module(module)
