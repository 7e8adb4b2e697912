"""Editing an architecture by paths: `stages.*.attention.stride_kv=1`, `stages.2.blocks.-1.attention=global`."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from hexavit.architecture.stage import BRANCH_COLUMNS, COLUMNS, Branch, Column, Part, Pattern, Stage
from hexavit.errors import ArchitectureError, nearest
from hexavit.parts.registry import options, part_class

if TYPE_CHECKING:
    from hexavit.architecture.architecture import Architecture


def override(architecture: Architecture, edits: Sequence[str] | Mapping[str, Any]) -> Architecture:
    """A copy with edits applied in order.

    A path is a field (`head`, `norm_eps`, `stages.N.dim`), a column (`stages.N.attention`,
    `stages.N.blocks.M.attention`), or an option of a part (`stages.N.attention.heads`). N and M may be negative, or `*`
    for all. `stages.N.block=(attention, name(option=value), feedforward)` sets the branches of the blocks, and
    `stages.N.block.K.residual` a field of one, K its number or name. A part is written `name` or
    `name(option=value, ...)`. A required option that is not given keeps the value of the part that is replaced, so
    `attention=global` keeps the heads.

    Args:
        architecture: is not changed.
        edits: `"path=value"` strings, or a mapping from path to value (a `Part`, or what the string form allows).

    Raises:
        ArchitectureError: a path, a part, an option or a value does not exist; the message gives the nearest that does.
    """
    if isinstance(edits, str):
        edits = [edits]
    pairs = list(edits.items()) if isinstance(edits, Mapping) else [_parse(edit) for edit in edits]
    for path, value in pairs:
        architecture = _edit(architecture, path, value if isinstance(value, Part) else _value(value, path))
    for path, _ in pairs:
        _check_used(architecture, path)
    return architecture.check()


def _check_used(architecture: Architecture, path: str) -> None:
    """Raise for an edit of a column that no block reads."""
    first, *rest = path.split(".")
    kind = next((name for name in rest[1:] if name in COLUMNS), "") if first == "stages" and "block" not in rest else ""
    stages = (
        [architecture.stages[i] for i in _chosen(rest[0], len(architecture.stages), path, "stages")] if kind else []
    )
    if stages and not any(kind in stage.used for stage in stages):
        raise ArchitectureError(
            f"{path}: a block of this stage has no {kind} of this column: set its branches too, as in "
            f"stages.{rest[0]}.block=(attention, feedforward)"
        )


def _parse(edit: str) -> tuple[str, str]:
    if not isinstance(edit, str):
        raise ArchitectureError(f"an edit is a string path=value, as in stages.2.attention.stride_kv=1, not {edit!r}")
    path, sign, value = edit.partition("=")
    if not sign or not path.strip() or not value.strip():
        raise ArchitectureError(f"an edit is path=value, as in stages.2.attention.stride_kv=1, not {edit!r}")
    return path.strip(), value.strip()


_WORDS = {"true": True, "false": False, "none": None}
_CALL = re.compile(r"([A-Za-z_]\w*)\s*(\(.*\))", re.DOTALL)


def _value(text: Any, path: str) -> Any:
    """A value of an edit: a literal, a word, or name(option=value) as a Part."""
    if not isinstance(text, str):
        return text
    call = _CALL.fullmatch(text)
    try:  # a part's name stays outside the parse: it may be a keyword of Python's, as `global` is
        node = ast.parse(f"_{call[2]}" if call else text, mode="eval").body
    except SyntaxError:
        if call:
            raise ArchitectureError(f"{path}={text} is not name(option=value, ...)") from None
        return text
    if not call:
        return _literal(node, text)
    if not isinstance(node, ast.Call) or node.args or any(keyword.arg is None for keyword in node.keywords):
        raise ArchitectureError(f"{path}={text}: write the options by name, as in {call[1]}(option=value)")
    return Part(call[1], **{str(k.arg): _literal(k.value, ast.unparse(k.value)) for k in node.keywords})


def _literal(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Name):
        return _WORDS.get(node.id, node.id)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
        return Part(node.func.id, **{str(k.arg): _literal(k.value, ast.unparse(k.value)) for k in node.keywords})
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(_literal(item, ast.unparse(item)) for item in node.elts)
    try:
        return ast.literal_eval(node)
    except ValueError:
        return text


def _edit(architecture: Architecture, path: str, value: Any) -> Architecture:
    first, *rest = path.split(".")
    if first == "stages":
        return _edit_stages(architecture, path, rest, value)
    if first == "head":
        return replace(architecture, head=_edit_part("head", architecture.head, path, rest, value))
    known = [f.name for f in fields(architecture) if f.name not in ("stages", "head")]
    if first not in known or rest:
        raise ArchitectureError(f"an architecture has no {path!r}: {nearest(first, [*known, 'stages', 'head'])}")
    if value is None:
        raise ArchitectureError(f"{path} takes a value, not none")
    return architecture.with_(**{first: value})


def _edit_stages(architecture: Architecture, path: str, rest: list[str], value: Any) -> Architecture:
    if len(rest) < 2:
        raise ArchitectureError(
            f"{path!r} stops too early: name a field, as in stages.{rest[0] if rest else 0}.attention"
        )
    stages = list(architecture.stages)
    for i in _chosen(rest[0], len(stages), path, "stages"):
        if rest[0] == "*" and len(rest) > 2 and rest[1] in COLUMNS and rest[1] not in stages[i].used:
            continue  # an option of a column that no block reads
        stages[i] = _edit_stage(stages[i], path, rest[1:], value)
    return replace(architecture, stages=tuple(stages))


def _edit_stage(stage: Stage, path: str, rest: list[str], value: Any) -> Stage:
    name, *rest = rest
    if name == "blocks":
        return _edit_blocks(stage, path, rest, value)
    if name == "block" and rest:
        return _edit_branches(stage, path, rest, value)
    if name in COLUMNS:
        column: Column = getattr(stage, name)
        if isinstance(column, Pattern) and not rest:
            column = column.cycle[0]
        return _with(stage, name, _edit_column(name, column, path, rest, value))
    known = [f.name for f in fields(stage)]
    if name not in known or rest:
        raise ArchitectureError(f"a stage has no {'.'.join([name, *rest])!r}: {nearest(name, [*known, 'blocks'])}")
    return _with(stage, name, value)


def _with(stage: Stage, name: str, value: Any) -> Stage:
    changed: dict[str, Any] = {name: value}
    return replace(stage, **changed)


def _edit_column(kind: str, column: Column, path: str, rest: list[str], value: Any) -> Column:
    """Edit a column. An option of a pattern is set in each of its parts that has the option; one of them must."""
    if isinstance(column, Part):
        return _edit_part(kind, column, path, rest, value)
    some = any(rest[0] in options(kind, part.name) for part in (*column.cycle, *column.at.values()))

    def edit(part: Part) -> Part:
        if some and rest[0] not in options(kind, part.name):
            return part
        return _edit_part(kind, part, path, rest, value)

    return Pattern([edit(part) for part in column.cycle], {index: edit(part) for index, part in column.at.items()})


def _edit_blocks(stage: Stage, path: str, rest: list[str], value: Any) -> Stage:
    if len(rest) < 2 or rest[1] not in COLUMNS[1:]:
        wrong = rest[1] if len(rest) > 1 else ""
        raise ArchitectureError(f"{path!r} names no column of a block: {nearest(wrong, COLUMNS[1:])}")
    selector, kind, *rest = rest
    for block in _chosen(selector, stage.depth, path, "blocks"):
        column: Column = getattr(stage, kind)
        part = _edit_part(kind, stage.column(kind, block), path, rest, value)
        cycle, at = ([column], {}) if isinstance(column, Part) else (column.cycle, column.at)
        at = {index: held for index, held in at.items() if index % stage.depth != block}
        stage = _with(stage, kind, _simplest(stage, kind, Pattern(cycle, {**at, block: part})))
    return stage


def _edit_branches(stage: Stage, path: str, rest: list[str], value: Any) -> Stage:
    """Edit a branch of a stage's block, given by its number or its name."""
    selector, name, *rest = [*rest, ""] if len(rest) == 1 else rest
    known = [f.name for f in fields(Branch)]
    if name not in known or (rest and name not in BRANCH_COLUMNS):
        raise ArchitectureError(f"{path!r} names no field of a branch: {nearest(name, known)}")
    names = [branch.module for branch in stage.block]
    chosen = [names.index(selector)] if selector in names else _chosen(selector, len(names), path, "branches")
    branches = list(stage.block)
    for k in chosen:
        changed: dict[str, Any] = {name: value}
        if name in BRANCH_COLUMNS and (rest or value is not None):
            kind = branches[k].kind if name == "part" else name
            held: Column = getattr(branches[k], name) or getattr(stage, kind)
            changed[name] = _edit_column(kind, held, path, rest, value)
        branches[k] = replace(branches[k], **changed)
    return replace(stage, block=tuple(branches))


def _simplest(stage: Stage, kind: str, pattern: Pattern) -> Column:
    """A pattern without a cycle if every block is an exception."""
    if len(pattern.at) < stage.depth:
        return pattern
    parts = [_with(stage, kind, pattern).column(kind, block) for block in range(stage.depth)]
    return parts[0] if len(set(parts)) == 1 else Pattern(parts)


def _edit_part(kind: str, part: Part, path: str, rest: list[str], value: Any) -> Part:
    if rest:
        known = options(kind, part.name)
        if len(rest) > 1 or rest[0] not in known:
            raise ArchitectureError(f"{kind} {part.name!r} has no option {'.'.join(rest)!r}: {nearest(rest[0], known)}")
        return Part(part.name, **{**part.options, rest[0]: value})
    new = Part("none" if value is None else value) if value is None or isinstance(value, str) else value
    if not isinstance(new, Part):
        raise ArchitectureError(f"{path} takes a part, as in name or name(option=value), not {value!r}")
    part_class(kind, new.name)
    inherited = {
        key: part.options[key]
        for key, parameter in options(kind, new.name).items()
        if parameter.default is parameter.empty and key not in new.options and key in part.options
    }
    return Part(new.name, **inherited, **new.options)


def _chosen(selector: str, count: int, path: str, of: str) -> list[int]:
    if selector == "*":
        return list(range(count))
    try:
        index = int(selector)
    except ValueError:
        raise ArchitectureError(f"{path!r}: {of} are numbered, or * for all, not {selector!r}") from None
    if not -count <= index < count:
        raise ArchitectureError(f"{path!r}: there is no {of}.{index}, only 0 to {count - 1} (or -{count} to -1)")
    return [index % count]
