"""The registries of parts, one for each kind, and the signatures of the parts' constructors."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from torch import nn

from hexavit.errors import ArchitectureError, nearest

Kind = Literal["tokens", "position", "attention", "feedforward", "residual", "head"]
KINDS: tuple[Kind, ...] = get_args(Kind)

CONTEXT: Mapping[str, str] = MappingProxyType(
    {
        "dim": "width of the stage: C",
        "in_dim": "width of the tokens that reach the part; in the first stage the image's channels (tokens, branches)",
        "out_dim": "width of what the branch gives (residual)",
        "lower": "widths of the lower resolutions that reach the part (tokens, parts of a block)",
        "grid": "grid (H, W) of the last raster before the part, where the tokens are points or a set (tokens)",
        "size": "grid (H, W) of the tokens that reach the part when the model is built",
        "extra": "number of extra tokens: P",
        "index": "number of the block in its stage, from 0 (parts of a block)",
        "norm_eps": "epsilon of the norms; for all parts of the architecture",
        "drop_path": "rate of stochastic depth in this block (parts of a block)",
        "stride": "by how much the grid shrinks in the branch, per axis (residual)",
        "role": "`attention` or `feedforward`: the branch around which it is placed (residual)",
        "heads": "number of heads of its attention (position inside an attention)",
        "head_dim": "width of one head of its attention (position inside an attention)",
        "scope": "grid (h, w) of the queries of its attention: a window, or the map (position inside an attention)",
        "key_scope": "grid of its keys, another where these are pooled (position inside an attention)",
        "carried": "shapes of what earlier parts give in `carry` for each image token, by name (see `given_shapes`)",
        "shared": "`nn.ModuleDict` of modules that the blocks of the stage share, for this kind (parts of a block)",
        "num_classes": "number of classes, 0 for features (head)",
        "blocks": "number of blocks from the stage where the extra tokens enter to the last (head)",
    }
)
"""What composition fills in for the positional parameters of a part's constructor, by name."""

_REGISTRIES: dict[str, dict[str, type[nn.Module]]] = {kind: {} for kind in KINDS}
# Inspecting a constructor costs more than building a small part: once for each class.
_SIGNATURES: dict[type[nn.Module], dict[str, inspect.Parameter]] = {}
_HINTS: dict[type[nn.Module], dict[str, Any]] = {}
_SIZE_ERRORS = re.compile("negative dimension|allocate memory|out of memory|overflow", re.IGNORECASE)
_PART = TypeVar("_PART", bound=type[nn.Module])


def register_part(kind: str, name: str, *, replace: bool = False) -> Callable[[_PART], _PART]:
    """Register a class as a part: `@register_part("attention", "mine")` above an `nn.Module` that keeps the contract.

    The positional parameters of its constructor are filled in by composition (see `CONTEXT`); its keyword-only
    parameters are its options.

    Args:
        kind: `tokens`, `position`, `attention`, `feedforward`, `residual` or `head`.
        name: a Python identifier, under which architectures name the part.
        replace: take the place of a part of this name.

    Raises:
        ArchitectureError: an unknown kind, a name that is taken, or a positional parameter that is not in `CONTEXT`.
    """
    if kind not in _REGISTRIES:
        raise ArchitectureError(f"there is no kind of part {kind!r}: {nearest(kind, KINDS)}")

    def register(part: _PART) -> _PART:
        held = _REGISTRIES[kind].get(name)
        if held is not None and not replace and _origin(held) != _origin(part):
            raise ArchitectureError(
                f"{kind} {name!r} is already {held.__qualname__}: pass replace=True to take its place"
            )
        if not name.isidentifier():
            raise ArchitectureError(f"a part's name must be a Python identifier, not {name!r}")
        for parameter in _parameters(part).values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise ArchitectureError(
                    f"{kind} {name!r}: its constructor must name its options, not take *args or **kwargs"
                )
            if parameter.kind != parameter.KEYWORD_ONLY and parameter.name not in CONTEXT:
                raise ArchitectureError(
                    f"{kind} {name!r}: there is no context for the positional parameter {parameter.name!r}: "
                    f"make it keyword-only (an option), or use one of {', '.join(CONTEXT)}"
                )
        _REGISTRIES[kind][name] = part
        return part

    return register


def part_class(kind: str, name: str) -> type[nn.Module]:
    """The class of a part.

    Raises:
        ArchitectureError: no such part, with the nearest name.
    """
    try:
        return _REGISTRIES[kind][name]
    except KeyError:
        hint = "; a part of your own is registered first, on the command line by --import"
        known = nearest(name, _REGISTRIES[kind])[:-1]
        raise ArchitectureError(f"there is no {kind} {name!r}: {known}{hint}") from None


def part_names(kind: str) -> tuple[str, ...]:
    """The names of the parts of one kind, sorted."""
    return tuple(sorted(_REGISTRIES[kind]))


def options(kind: str, name: str) -> dict[str, inspect.Parameter]:
    """A part's options: the keyword-only parameters of its constructor."""
    return _options(part_class(kind, name))


def context_of(cls: type[nn.Module]) -> frozenset[str]:
    """The names of the context that a part's constructor asks for."""
    return frozenset(p.name for p in _parameters(cls).values() if p.kind != p.KEYWORD_ONLY)


def check_options(kind: str, name: str, chosen: Mapping[str, Any], where: str) -> None:
    """Raise for an unknown part, an unknown or missing option, or a value of another type than the option's."""
    cls = part_class(kind, name)
    known = _options(cls)
    hints = _hints(cls) if chosen else {}
    for key, value in chosen.items():
        if key not in known:
            raise ArchitectureError(f"{where}: {kind} {name!r} has no option {key!r}: {nearest(key, known)}")
        if key in hints and not _accepts(hints[key], value):
            raise ArchitectureError(f"{where}.{key} takes {described(hints[key])}, not {value!r}")
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in chosen:
            raise ArchitectureError(f"{where}: {kind} {name!r} needs {key}, as in {name}({key}=...)")


def build_part(kind: str, name: str, chosen: Mapping[str, Any], context: Mapping[str, Any], where: str) -> nn.Module:
    """Construct a part.

    Args:
        kind: kind of part.
        name: name of the part.
        chosen: its options.
        context: what is known at this place of the model, by the names of `CONTEXT`.
        where: path of the place, for error messages.

    Raises:
        ArchitectureError: the constructor raised for a value, or asks for context that a part of its kind does not get.
    """
    cls = part_class(kind, name)
    asked = [p for p in _parameters(cls).values() if p.kind != p.KEYWORD_ONLY]
    for parameter in asked:
        if parameter.default is parameter.empty and parameter.name not in context:
            raise ArchitectureError(
                f"{where}={name}: a {kind} part is not given {parameter.name!r}, which its constructor asks for"
            )
    known = {p.name: context[p.name] for p in asked if p.name in context}
    try:
        return cls(**known, **chosen)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        reason = str(error)
        if found := _SIZE_ERRORS.search(reason):
            reason = "a size is below 0" if "negative" in found[0] else "there is no memory for weights of these sizes"
        elif isinstance(error, RuntimeError):
            raise
        raise ArchitectureError(f"{where}={name}: {reason}") from error


def _parameters(cls: type[nn.Module]) -> dict[str, inspect.Parameter]:
    if cls not in _SIGNATURES:
        _SIGNATURES[cls] = {} if cls.__init__ is nn.Module.__init__ else dict(inspect.signature(cls).parameters)
    return _SIGNATURES[cls]


def _options(cls: type[nn.Module]) -> dict[str, inspect.Parameter]:
    return {name: p for name, p in _parameters(cls).items() if p.kind == p.KEYWORD_ONLY}


def _hints(cls: type[nn.Module]) -> dict[str, Any]:
    if cls not in _HINTS:
        _HINTS[cls] = get_type_hints(cls.__init__)
    return _HINTS[cls]


def _origin(cls: type[nn.Module]) -> tuple[str, str]:
    """Where a class is defined: running its file again (a notebook cell, a reload) may register it again."""
    return cls.__module__, cls.__qualname__


def _accepts(hint: Any, value: Any) -> bool:
    """Whether an annotation takes a value: numbers, words, choices, lists, None."""
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
    """An annotation in words, for error messages and pages."""
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", type(None): "none"}
    inner = get_args(hint)
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, inner))
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(described, inner))
    if get_origin(hint) in (tuple, list):
        return f"a list, each {described(inner[0])}"
    return names.get(hint, str(hint))
