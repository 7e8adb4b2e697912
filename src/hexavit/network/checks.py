"""Whether the parts of an architecture fit together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hexavit.architecture import Architecture, Part, Stage
from hexavit.errors import ArchitectureError
from hexavit.network.stage import CLASS_TOKENS
from hexavit.parts.registry import options, part_class, part_names


def head_entry(architecture: Architecture) -> tuple[int, int]:
    """The stage where the head's extra tokens enter, and their number."""
    cls, known = part_class("head", architecture.head.name), options("head", architecture.head.name)
    count = architecture.head.options.get("extra_tokens", getattr(cls, "extra_tokens", 0))
    enter = architecture.head.options.get("enter", known["enter"].default if "enter" in known else 0)
    last = len(architecture.stages)
    assert isinstance(enter, int)
    assert isinstance(count, int)
    if count and not -last <= enter < last:
        raise ArchitectureError(f"head={architecture.head}: there is no stage {enter} to enter, only 0 to {last - 1}")
    return enter % last, count


def check_fits(architecture: Architecture) -> None:
    """Check that each part can read what the parts before it give.

    Raises:
        ArchitectureError: two parts do not fit together; the message names both.
    """
    layout, source = "raster", "the image"
    given: set[str] = set()
    messengers: tuple[str, Any] | None = None  # the tokens part that brings them, and the side of its windows
    resolutions = ""  # the tokens part that brings lower resolutions, on which all blocks work
    enter, entering = head_entry(architecture)
    first = _first_entry(architecture)
    if entering and not sum(stage.depth for stage in architecture.stages[enter:]):
        raise ArchitectureError(
            f"the extra tokens of head={architecture.head} enter at stage {enter}, from which on there is no block: "
            f"use enter={first}"
        )
    for i, stage in enumerate(architecture.stages):
        tokens = f"stages.{i}.tokens={stage.tokens}"
        for where, kind, part in _parts_in_order(stage, i):
            cls = part_class(kind, part.name)
            need = getattr(cls, "needs", "any")
            if (need == "raster" and layout != "raster") or (need == "points" and layout == "set"):
                raise ArchitectureError(
                    f"{where}={part} reads a {need}, and {source} gives a {layout}: change one of the two"
                )
            if getattr(cls, "needs_extra", False) and messengers is None and not (entering and i >= enter):
                place = "" if i >= first else f"it in stages from {first} on, with "
                raise ArchitectureError(
                    f"{where}={part} works on extra tokens, and head={architecture.head} brings none to stage {i}: "
                    f"use {place}head=class_token(enter={max(i, first)})"
                )
            if getattr(cls, "needs_messengers", False):
                _check_messengers(f"{where}={part}", _window(kind, part), messengers, tokens)
            of_extra = getattr(cls, "needs_extra", False) or getattr(cls, "needs_messengers", False)
            if resolutions and of_extra and kind != "tokens":
                raise ArchitectureError(
                    f"{where}={part} works on extra tokens, and the lower resolutions of {resolutions} have none: "
                    "change one of the two"
                )
            if kind == "tokens":
                if "resolution1" in getattr(cls, "gives", ()):
                    resolutions = f"{where}={part}"
                elif getattr(cls, "joins_resolutions", False):
                    resolutions = ""
                if getattr(cls, "brings_extra", False):
                    messengers = (f"{where}={part}", _window(kind, part))
                elif not getattr(cls, "keeps_extra", True):
                    messengers = None
                if entering and i > enter and not getattr(cls, "keeps_extra", True):
                    raise ArchitectureError(
                        f"the extra tokens of head={architecture.head} enter at stage {enter}, and {where}={part} "
                        f"cannot carry them into stage {i}: use enter={first}"
                    )
                makes = getattr(cls, "makes", None)
                layout, source = (makes, f"{where}={part}") if makes else (layout, source)
            for name in getattr(cls, "takes", ()):
                if name not in given:
                    raise ArchitectureError(
                        f"{where}={part} takes {name!r}, which no part before it gives{_givers(name, stage, i)}"
                    )
            given.update(getattr(cls, "gives", ()))
            if kind == "position":
                _check_position(stage, i, where, part)
    head = part_class("head", architecture.head.name)
    if getattr(head, "needs_messengers", False):
        _check_messengers(f"head={architecture.head}", None, messengers, tokens)
    for name in getattr(head, "takes", ()):
        if name not in given | ({CLASS_TOKENS} if entering else set()):
            raise ArchitectureError(f"head={architecture.head} takes {name!r}, which no part before it gives")


def _window(kind: str, part: Part) -> Any:
    """The option `window` of a part; None if it has none."""
    known = options(kind, part.name)
    return part.options.get("window", known["window"].default) if "window" in known else None


def _check_messengers(where: str, window: Any, messengers: tuple[str, Any] | None, tokens: str) -> None:
    """Raise where a part works on messengers, and nothing brings them, or for windows of another side."""
    if messengers is None:
        names = part_names("tokens")
        bringing = [each for each in names if getattr(part_class("tokens", each), "brings_extra", False)]
        raise ArchitectureError(
            f"{where} works on the extra tokens of windows, and {tokens} hands none on: use {' or '.join(bringing)}"
        )
    source, side = messengers
    if None not in (window, side) and window != side:
        raise ArchitectureError(
            f"{where} has windows of {window}, and {source} brings extra tokens for windows of {side}: give all parts "
            "that have messengers the same window"
        )


def _givers(name: str, stage: Stage, i: int) -> str:
    """What to do where a part takes what no part gives."""
    found = [each for each in part_names("tokens") if name in getattr(part_class("tokens", each), "gives", ())]
    return f": use {' or '.join(found)} in place of stages.{i}.tokens={stage.tokens}" if found else ""


def _first_entry(architecture: Architecture) -> int:
    """The first stage from which extra tokens pass through to the last."""
    tokens = [part_class("tokens", stage.tokens.name) for stage in architecture.stages]
    return max((i for i, cls in enumerate(tokens) if not getattr(cls, "keeps_extra", True)), default=0)


def _parts_in_order(stage: Stage, i: int) -> Iterator[tuple[str, str, Part]]:
    """Path, kind and part of a stage in the order in which they run; a column without a pattern only once."""
    yield f"stages.{i}.tokens", "tokens", stage.column("tokens")
    columns = [each for each in stage.columns() if each[0] != "tokens"]
    for k in range(stage.depth):
        for path, kind, column in columns:
            steady = isinstance(column, Part)
            if k == 0 or not steady:
                where = f"stages.{i}.{path}" if steady else f"stages.{i}.blocks.{k}.{path}"
                yield where, kind, stage.chosen(column, kind, k)


def _check_position(stage: Stage, i: int, where: str, part: Part) -> None:
    acts = acts_on(part)
    if acts == "tokens" and ".blocks." in where:
        raise ArchitectureError(f"{where}={part} acts on the tokens that enter a stage: set it for the whole stage")
    if acts not in ("logits", "values"):
        return
    own = where.partition(".block.")[2].partition(".")[0]
    column = (stage.block[int(own)].part if own else None) or stage.attention
    for k in range(stage.depth):
        if not own and stage.column("position", k) != part:
            continue
        attention = stage.chosen(column, "attention", k)
        if acts not in getattr(part_class("attention", attention.name), "offers", frozenset()):
            raise ArchitectureError(
                f"{where}={part} acts on the attention's {acts}, which stages.{i}.attention={attention} does not offer"
            )


def acts_on(position: Part) -> str:
    """Where a position part acts."""
    acts: str = getattr(part_class("position", position.name), "acts", "tokens")
    return acts


def pool_part(global_pool: str, part: Part) -> Part:
    """The head that pools as timm's `global_pool` says.

    Args:
        global_pool: `avg` or `token`.
        part: the present head.

    Raises:
        ArchitectureError: an unknown pooling, or `token` for a model without a class token.
    """
    names = {"avg": "pool", "token": "class_token"}
    if global_pool not in names:
        raise ArchitectureError(f"global_pool is 'avg', 'token' or '', not {global_pool!r}")
    if names[global_pool] == part.name:
        return part
    if global_pool == "token":
        raise ArchitectureError("this model was not built with a class token to read: build it with head=class_token")
    known = options("head", "pool")
    return Part("pool", **{key: value for key, value in part.options.items() if key in known})
