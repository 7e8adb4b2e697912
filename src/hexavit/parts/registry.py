"""The six shelves: every part by its kind and name, and what a part's constructor asks for."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from torch import nn

from hexavit.errors import ArchitectureError, nearest

Kind = Literal["tokens", "position", "attention", "feedforward", "residual", "head"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_SHELVES: dict[str, dict[str, type[nn.Module]]] = {kind: {} for kind in KINDS}
_HOUSE = (
    "dim", "in_dim", "heads", "size", "extra", "stride", "norm_eps", "drop_path", "index", "scope", "head_dim",
    "num_classes", "role", "blocks", "shared",
)  # fmt: skip
_SIZES = re.compile("negative dimension|allocate memory|out of memory", re.IGNORECASE)
_PART = TypeVar("_PART", bound=type[nn.Module])


def register_part(kind: str, name: str, *, replace: bool = False) -> Callable[[_PART], _PART]:
    """Put a class on a shelf: `@register_part("attention", "mine")` above an `nn.Module` on the contract.

    Its constructor's positional parameters are filled by the house, its keyword-only ones are its options.

    Raises:
        ArchitectureError: unknown kind, a name that is taken, or a positional parameter the house does not know.
    """
    if kind not in _SHELVES:
        raise ArchitectureError(f"there is no shelf {kind!r}: {nearest(kind, KINDS)}")

    def put(part: _PART) -> _PART:
        held = _SHELVES[kind].get(name)
        if held is not None and not replace and _origin(held) != _origin(part):
            raise ArchitectureError(
                f"{kind} {name!r} is already {held.__qualname__}: pass replace=True to take its place"
            )
        if not name.isidentifier():
            raise ArchitectureError(f"a part's name is a Python identifier, which {name!r} is not")
        for parameter in _parameters(part).values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise ArchitectureError(
                    f"{kind} {name!r}: its constructor must name its options, not take *args or **kwargs"
                )
            if parameter.kind != parameter.KEYWORD_ONLY and parameter.name not in _HOUSE:
                raise ArchitectureError(
                    f"{kind} {name!r}: the house cannot fill the positional parameter {parameter.name!r}: "
                    f"make it keyword-only (an option), or use one of {', '.join(_HOUSE)}"
                )
        _SHELVES[kind][name] = part
        return part

    return put


def part_class(kind: str, name: str) -> type[nn.Module]:
    """The class on a shelf, or a refusal that names the nearest."""
    try:
        return _SHELVES[kind][name]
    except KeyError:
        hint = "; a part of your own is registered first, on the command line by --import"
        raise ArchitectureError(f"there is no {kind} {name!r}: {nearest(name, _SHELVES[kind])[:-1]}{hint}") from None


def part_names(kind: str) -> tuple[str, ...]:
    """The names on one shelf, sorted."""
    return tuple(sorted(_SHELVES[kind]))


def options(kind: str, name: str) -> dict[str, inspect.Parameter]:
    """A part's options: the keyword-only parameters of its constructor."""
    found = _parameters(part_class(kind, name)).values()
    return {p.name: p for p in found if p.kind == p.KEYWORD_ONLY}


def check_options(kind: str, name: str, chosen: Mapping[str, Any], where: str) -> None:
    """Refuse an unknown part, an unknown or missing option, or a value of another type than the option's."""
    known = options(kind, name)
    hints = get_type_hints(part_class(kind, name).__init__) if known else {}
    for key, value in chosen.items():
        if key not in known:
            raise ArchitectureError(f"{where}: {kind} {name!r} has no option {key!r}: {nearest(key, known)}")
        if key in hints and not _accepts(hints[key], value):
            raise ArchitectureError(f"{where}.{key} takes {described(hints[key])}, not {value!r}")
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in chosen:
            raise ArchitectureError(f"{where}: {kind} {name!r} needs {key}, as in {name}({key}=...)")


def build_part(kind: str, name: str, chosen: Mapping[str, Any], house: Mapping[str, Any], where: str) -> nn.Module:
    """Construct a part from its options and from what the house knows at `where` (for the message).

    Raises:
        ArchitectureError: the constructor refused a value (the sentence is the part's own, with the place before it),
            or asks for what a part of its kind is not given.
    """
    cls = part_class(kind, name)
    asked = [p for p in _parameters(cls).values() if p.kind != p.KEYWORD_ONLY]
    for parameter in asked:
        if parameter.default is parameter.empty and parameter.name not in house:
            raise ArchitectureError(
                f"{where}={name}: a {kind} part is not given {parameter.name!r}, which its constructor asks for"
            )
    known = {p.name: house[p.name] for p in asked if p.name in house}
    try:
        return cls(**known, **chosen)
    except (ValueError, TypeError) as error:
        raise ArchitectureError(f"{where}={name}: {error}") from error
    except RuntimeError as error:
        if found := _SIZES.search(str(error)):
            told = "a size is below 0" if "negative" in found[0] else "there is no memory for weights of these sizes"
            raise ArchitectureError(f"{where}={name}: {told}") from error
        raise


def _parameters(cls: type[nn.Module]) -> dict[str, inspect.Parameter]:
    if cls.__init__ is nn.Module.__init__:
        return {}
    return {name: p for name, p in inspect.signature(cls.__init__).parameters.items() if name != "self"}


def _origin(cls: type[nn.Module]) -> tuple[str, str]:
    """A class as a file defines it: running the file again (a notebook cell, a reload) is no clash."""
    return cls.__module__, cls.__qualname__


def _accepts(hint: Any, value: Any) -> bool:
    """Whether an annotation takes a value: enough of typing for options (numbers, words, choices, lists, None)."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in inner
    if origin in (Union, UnionType):
        return any(_accepts(one, value) for one in inner)
    if origin in (tuple, list):
        return isinstance(value, tuple | list) and all(_accepts(inner[0], item) for item in value)
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return isinstance(value, hint) if isinstance(hint, type) else True


def described(hint: Any) -> str:
    """An annotation in the words of a refusal."""
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", type(None): "none"}
    inner = get_args(hint)
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, inner))
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(described, inner))
    if get_origin(hint) in (tuple, list):
        return f"a list, each {described(inner[0])}"
    return names.get(hint, str(hint))
