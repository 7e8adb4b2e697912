"""Architectures as JSON objects, format 1."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from hexavit.architecture.stage import BLOCK, BRANCH_COLUMNS, Branch, Column, Part, Pattern, Stage
from hexavit.errors import ArchitectureError, nearest
from hexavit.parts.registry import KINDS


def encode(value: Any) -> Any:
    """An architecture, a stage, a column or a value as what JSON holds."""
    if isinstance(value, Part):
        return {"part": value.name, **({"options": value.options} if value.options else {})}
    if isinstance(value, Pattern):
        return {"cycle": [encode(p) for p in value.cycle], "at": {str(k): encode(p) for k, p in value.at.items()}}
    if isinstance(value, Branch):
        chosen = {f.name: getattr(value, f.name) for f in fields(value)}
        return {name: encode(held) for name, held in chosen.items() if name == "kind" or held not in (None, False, "")}
    if is_dataclass(value):
        chosen = {f.name: getattr(value, f.name) for f in fields(value)}
        return {name: encode(held) for name, held in chosen.items() if name != "block" or held != BLOCK}
    return [encode(item) for item in value] if isinstance(value, tuple) else value


def decode(cls: Callable[..., Any], data: Any) -> Any:
    """An architecture from what JSON holds.

    Raises:
        ArchitectureError: another format, an unknown or missing field.
    """
    if not isinstance(data, dict) or data.pop("format", None) != 1:
        raise ArchitectureError('an architecture is a JSON object with "format": 1')
    stages = data.get("stages", [])
    if not isinstance(stages, list):
        raise ArchitectureError(f"an architecture's stages are a JSON list, not {stages!r}")
    data["stages"] = tuple(_decode(Stage, stage, f"stages.{i}", KINDS) for i, stage in enumerate(stages))
    return _decode(cls, data, "architecture", ("head",))


def _decode(cls: Callable[..., Any], data: Any, where: str, columns: Sequence[str]) -> Any:
    if not isinstance(data, dict):
        raise ArchitectureError(f"{where} is a JSON object, not {data!r}")
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]  # a dataclass
    for key in data:
        if key not in known:
            raise ArchitectureError(f"{where} has no field {key!r}: {nearest(key, known)}")
    decoded = {key: _decode_column(item, f"{where}.{key}") if key in columns else item for key, item in data.items()}
    if "block" in data:
        branches = data["block"] if isinstance(data["block"], list) else [data["block"]]
        decoded["block"] = tuple(
            _decode(Branch, b, f"{where}.block.{k}", BRANCH_COLUMNS) for k, b in enumerate(branches)
        )
    try:
        return cls(**decoded)
    except TypeError as error:  # a field without a default is missing
        raise ArchitectureError(f"{where}: {str(error).split(') ')[-1]}") from None


def _decode_column(data: Any, where: str) -> Column:
    if isinstance(data, dict) and isinstance(data.get("part"), str) and set(data) <= {"part", "options"}:
        chosen = data.get("options", {})
        if isinstance(chosen, dict):
            return Part(data["part"], **chosen)
    if isinstance(data, dict) and isinstance(data.get("cycle"), list) and set(data) <= {"cycle", "at"}:
        at = data.get("at", {})
        if isinstance(at, dict) and all(re.fullmatch(r"-?\d+", index) for index in at):
            exceptions = {int(index): _decode_part(part, where) for index, part in at.items()}
            return Pattern([_decode_part(part, where) for part in data["cycle"]], exceptions)
    raise ArchitectureError(
        f'{where} is {{"part": name, "options": {{...}}}} or {{"cycle": [...], "at": {{block: ...}}}}'
    )


def _decode_part(data: Any, where: str) -> Part:
    column = _decode_column(data, where)
    if isinstance(column, Part):
        return column
    raise ArchitectureError(f"{where}: a pattern holds parts, not patterns")
