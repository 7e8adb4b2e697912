"""A tensor in a file: its shape and type are known, its numbers are read when they are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor

from hexavit.architecture import Architecture

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Stored:
    """A tensor that can be read."""

    shape: Shape
    dtype: torch.dtype
    read: Callable[[], Tensor]

    @property
    def bytes(self) -> int:
        """What its numbers take."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass
class Contents:
    """What a file holds: a tree of mappings, lists, plain values and `Stored`, with nothing made that could act.

    `foreign` counts, by name, the classes and functions that the file asked for and that were not made. `config` is
    transformers' `config.json`; `architecture`, `class_names` and `preprocessing` are what a folder says of its model.
    """

    where: str
    format: str
    tree: Any
    foreign: Mapping[str, int] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    architecture: Architecture | None = None
    class_names: tuple[str, ...] = ()
    preprocessing: Mapping[str, Any] = field(default_factory=dict)


def printable(text: str, most: int = 120) -> str:
    """A name out of a file, safe to print: escapes instead of line breaks and control characters."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:most])


def listed(keys: Iterable[str], most: int = 20) -> str:
    """Keys for a sentence, the first `most` of them."""
    names = list(keys)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
