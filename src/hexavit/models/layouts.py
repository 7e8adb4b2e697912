"""Checkpoint layouts as tables: how others name and shape the tensors that hexavit's models hold.

A table (`key_tables.py`) maps their keys to ours, and is read in both directions. Which file has which layout is for
`hexavit.checkpoints` to find out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from hexavit._deprecated import renamed
from hexavit.architecture import Architecture, Part
from hexavit.errors import CheckpointError
from hexavit.models.key_tables import (
    COPIES,
    HEADS_BIAS,
    HEADS_IN,
    HEADS_OUT,
    SAME,
    As,
    Copies,
    Form,
    Join,
    Split,
    Table,
)
from hexavit.parts.registry import options

__getattr__ = renamed(
    __name__,
    {
        name: f"hexavit.models.key_tables.{name}"
        for name in ("CHANNELS", "HWIO", "POINTWISE", "SEQUENCE_FIRST", "TRANSPOSED")
    },
)
State = Mapping[str, Tensor]
OWN_SUFFIXES = (".safetensors", ".pth")
_PTH = (".pth", ".safetensors")
_SUFFIXES = {
    "authors": _PTH,
    "huggingface": ("", ".safetensors", ".pth"),
    "torchvision": _PTH,
    "vit_pytorch": _PTH,
}
_CYCLE = re.compile(r"\.cycle\.\d+")
"""Where a column changes over the blocks, what stands between its name and its options."""


@dataclass(frozen=True)
class Row:
    """A table's row in its general form: patterns on both sides, no ours for what is dropped."""

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    form: Form
    axis: int = 0
    zeros: tuple[int, ...] = ()
    """Places among the parts, in their order, that are 0 in theirs and not held here."""
    shares: tuple[int, ...] = ()
    """How large the parts of theirs are, relative to each other; empty for equal ones."""


@dataclass
class Translation:
    """A state under other names: the tensors, where each came from, what was dropped, what no row explains.

    `broken` holds sentences on rows that apply only in part, or to tensors of a wrong shape.
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Layout:
    """One origin's names for one family of models.

    Attributes:
        origin: `authors`, `huggingface`, `timm`, `torchvision`, `vit_pytorch` or `hexavit`; of two layouts with one
            origin, the first is written.
        family: the family of models.
        table: their keys and ours.
        only: the values that the library can compute, by a path ending of `Architecture.leaves`; others are errors
            when writing.
        says: a sentence on what the library computes in its own way, by such an ending with the library's value.
        base: the prefix that keys lack in the file of a model without a head.
        suffixes: of its files, if not the origin's usual ones; an empty one is a folder with `config.json`.
        config: makes the content of `config.json`.
        computed: makes the tensors that the library wants in a file although they follow from the architecture.
        uniform: path endings that must have one value in all blocks.
        cannot: further options, as `path=value`, that the library computes otherwise; None for a layout of the family's
            every architecture, which is written where the architecture is not known.
        eps_in_config: whether the library uses the `layer_norm_eps` of `config.json`.
        places: for an origin that numbers modules through all stages: where each stands in an architecture, such as
            `stages.1.blocks.0` for `blocks.6`. The table then names the modules by their numbers.
    """

    origin: str
    family: str
    table: Table
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    says: Mapping[str, str] = field(default_factory=dict)
    base: str = ""
    suffixes: tuple[str, ...] = ()
    config: Callable[[Architecture], dict[str, Any]] | None = None
    computed: Callable[[Architecture], dict[str, Tensor]] | None = None
    uniform: tuple[str, ...] = ()
    cannot: Callable[[Architecture], list[str]] | None = None
    eps_in_config: bool = True
    places: Callable[[Architecture], Mapping[str, str]] | None = None

    def unsupported(self, architecture: Architecture) -> list[str]:
        """The options of an architecture that the layout cannot express, as `path=value`."""
        leaves = [(_CYCLE.sub("", path), value) for path, value in architecture.leaves().items()]
        found = [
            f"{path}={value}"
            for path, value in leaves
            for ending, allowed in {"head.extra_tokens": ("1",), **self.only}.items()
            if f".{path}".endswith(f".{ending}") and value not in allowed
        ]
        for ending in self.uniform:
            values = [(path, value) for path, value in leaves if path.endswith(f".{ending}")]
            found += [f"{path}={value} beside {values[0][1]}" for path, value in values if value != values[0][1]]
        return list(dict.fromkeys([*found, *(self.cannot(architecture) if self.cannot else ())]))

    def differs(self, architecture: Architecture) -> list[tuple[str, str, str]]:
        """Where the layout's library computes in its own way: (sentence, the option with its value, what is here)."""
        found = []
        for choice, said in self.says.items():
            ending, _, value = choice.partition("=")
            leaves = architecture.leaves().items()
            here = {v for path, v in leaves if f".{_CYCLE.sub('', path)}".endswith(f".{ending}") and v != value}
            if here:
                found.append((said, choice, ", ".join(sorted(here))))
        return found

    @property
    def written_as(self) -> tuple[str, ...]:
        """The suffixes of its files: `suffixes`, else what is usual for the origin."""
        return self.suffixes or _SUFFIXES.get(self.origin, OWN_SUFFIXES)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The table's rows in their general form."""
        return tuple(_row(theirs, ours) for theirs, ours in self.table.items())

    @cached_property
    def shapes(self) -> frozenset[str]:
        """The shapes of the keys that it has rows for, without the cost of their regular expressions."""
        return frozenset(_shape(pattern) for row in self.rows for pattern in row.theirs)

    @cached_property
    def _theirs(self) -> Patterns:
        return _by_shape((p, row, i) for row in self.rows for i, p in enumerate(row.theirs))

    @cached_property
    def _ours(self) -> Patterns:
        return _by_shape((p, row, i) for row in self.rows for i, p in enumerate(row.ours))

    def explained(self, keys: Iterable[str]) -> int:
        """How many of these keys a row explains."""
        return sum(_find(self._theirs, key) is not None for key in keys)

    def to_ours(self, state: State, architecture: Architecture | None = None) -> Translation:
        """Their state to ours; without the architecture, modules that are numbered through stages keep their number."""
        done = _translate(state, self._theirs, lambda row: (row.theirs, row.ours), _to_ours)
        return done if architecture is None else self.placed(done, architecture)

    def placed(self, done: Translation, architecture: Architecture) -> Translation:
        """A translation to ours with each module at its place in an architecture."""
        if self.places is None:
            return done
        known = self.places(architecture)
        return replace(
            done,
            state={moved(key, known): tensor for key, tensor in done.state.items()},
            sources={moved(key, known): names for key, names in done.sources.items()},
        )

    def to_theirs(
        self, state: State, heads: Callable[[str], int], architecture: Architecture | None = None
    ) -> Translation:
        """Our state to theirs; `heads` tells the number of heads at one of our keys."""
        known = self.places(architecture) if self.places and architecture else {}
        back = {ours: theirs for theirs, ours in known.items()}
        return _translate(
            {moved(key, back): tensor for key, tensor in state.items()} if back else state,
            self._ours,
            lambda row: (row.ours, row.theirs),
            lambda row, ts, key: _to_theirs(row, ts, lambda key: heads(moved(key, known)), key),
        )


def numbered_through(architecture: Architecture) -> dict[str, str]:
    """The place of each block, by its number through all stages: `blocks.6` is at `stages.1.blocks.0`, for example."""
    places = (f"stages.{i}.blocks.{k}" for i, stage in enumerate(architecture.stages) for k in range(stage.depth))
    return {f"blocks.{number}": place for number, place in enumerate(places)}


def moved(key: str, places: Mapping[str, str]) -> str:
    """A key whose beginning is one of `places`, under that place."""
    parts = key.split(".")
    for count in (6, 4, 3, 2):  # stages.1.blocks.0.attention_residual.skip down to learners.0; the longest place holds
        if place := places.get(".".join(parts[:count])):
            return ".".join((place, *parts[count:]))
    return key


def not_in_transformers(architecture: Architecture, reason: str) -> CheckpointError:
    """The error for a model that transformers cannot build."""
    return CheckpointError(
        f"transformers cannot build {architecture.name}: {reason}; a .safetensors file for other readers can be written"
    )


def filled(kind: str, part: Part) -> dict[str, Any]:
    """A part's options with the defaults of those not chosen."""
    return {name: part.options.get(name, parameter.default) for name, parameter in options(kind, part.name).items()}


def _row(theirs: str | tuple[str, ...], ours: str | As | Split | Join | Copies | None) -> Row:
    keys = (theirs,) if isinstance(theirs, str) else theirs
    if ours is None:
        return Row(keys, (), SAME)
    if isinstance(ours, str):
        return Row(keys, (ours,), SAME)
    if isinstance(ours, Split):
        zeros = tuple(i for i, name in enumerate(ours.ours) if name is None)
        return Row(keys, tuple(name for name in ours.ours if name is not None), ours.form, zeros=zeros)
    if isinstance(ours, Copies):
        return Row(keys, (ours.ours,), COPIES)
    if isinstance(ours, Join):
        return Row(keys, (ours.ours,), ours.form, ours.axis, shares=ours.shares)
    return Row(keys, (ours.ours,), ours.form)


def _pattern(text: str) -> re.Pattern[str]:
    """`{}` is an index without leading zeros, so that no two keys mean one; `*` is one name."""
    return re.compile(re.escape(text).replace(r"\{\}", r"(0|[1-9][0-9]{0,3})").replace(r"\*", r"([a-z_]+)"), re.ASCII)


Patterns = Mapping[str, Sequence[tuple[re.Pattern[str], Row, int]]]
"""Patterns of keys, each with its row and its place there, by the shape of the keys."""
_NUMBERS = re.compile(r"[0-9]+|\{\}")


def _shape(key: str) -> str:
    """A key or a pattern with its numbers and indices left open."""
    return _NUMBERS.sub("#", key)


def key_shapes(key: str) -> tuple[str, str]:
    """The shapes of the patterns that may match a key: its own, and one with any last name."""
    shape = _shape(key)
    return shape, f"{shape.rpartition('.')[0]}.*"


def _by_shape(patterns: Iterable[tuple[str, Row, int]]) -> Patterns:
    index: dict[str, list[tuple[re.Pattern[str], Row, int]]] = {}
    for text, row, place in patterns:
        index.setdefault(_shape(text), []).append((_pattern(text), row, place))
    return index


def _fill(pattern: str, values: tuple[str, ...]) -> str:
    left = iter(values)
    return re.sub(r"\{\}|\*", lambda _: next(left), pattern)


def _find(patterns: Patterns, key: str) -> tuple[Row, int, tuple[str, ...]] | None:
    for shape in key_shapes(key):
        for pattern, row, place in patterns.get(shape, ()):
            if match := pattern.fullmatch(key):
                return row, place, match.groups()
    return None


def _translate(
    state: State,
    patterns: Patterns,
    sides: Callable[[Row], tuple[tuple[str, ...], tuple[str, ...]]],
    change: Callable[[Row, list[Tensor], str], list[Tensor]],
) -> Translation:
    done = Translation()
    groups: dict[tuple[Row, tuple[str, ...]], dict[int, str]] = {}
    for key in state:
        found = _find(patterns, key)
        if found is None:
            done.unexplained.append(key)
        elif not sides(found[0])[1]:
            done.dropped.append(key)
        else:
            groups.setdefault((found[0], found[2]), {})[found[1]] = key
    for (row, values), held in groups.items():
        sources, targets = sides(row)
        keys = tuple(_fill(source, values) for source in sources)
        names = [_fill(target, values) for target in targets]
        if len(held) < len(sources) and row.form is not COPIES:
            absent = [keys[i] for i in range(len(keys)) if i not in held]
            done.broken.append(f"{', '.join(held.values())} needs {', '.join(absent)} beside it")
            continue
        keys = tuple(keys[i] for i in sorted(held))
        tensors = [state[held[i]] for i in sorted(held)]
        try:
            changed = change(row, tensors, keys[0])
        except (RuntimeError, IndexError, ValueError):
            shapes = ", ".join(f"{key} {tuple(t.shape)}" for key, t in zip(keys, tensors, strict=True))
            done.broken.append(
                f"{shapes} does not have the form {row.form.name} of {len(row.ours)} in {len(row.theirs)}"
            )
            continue
        for name, tensor in zip(names, changed, strict=True):
            if name in done.state:
                done.broken.append(f"{', '.join(keys)} and {', '.join(done.sources[name])} are both {name}")
            done.state[name], done.sources[name] = tensor.contiguous(), keys
    return done


def _to_ours(row: Row, tensors: list[Tensor], key: str) -> list[Tensor]:
    if row.form is COPIES:
        if not all(t.is_meta or torch.equal(t, tensors[0]) for t in tensors):
            raise ValueError(key)
        return tensors[:1]
    formed = [row.form.ours(t) for t in tensors]
    if any(a.numel() != b.numel() for a, b in zip(formed, tensors, strict=True)):
        raise ValueError(key)  # a form that would leave numbers out
    whole = formed[0] if len(formed) == 1 else torch.cat(formed, dim=row.axis)
    parts = _cut(whole, (1,) * (len(row.ours) + len(row.zeros)), row.axis)
    return [part for i, part in enumerate(parts) if i not in row.zeros]


def _to_theirs(row: Row, tensors: list[Tensor], heads: Callable[[str], int], key: str) -> list[Tensor]:
    if row.form is COPIES:
        return [tensors[0].clone() for _ in row.theirs]
    tensors = list(tensors)
    for i in row.zeros:
        tensors.insert(i, torch.zeros_like(tensors[0]))
    whole = tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim=row.axis)
    needed = heads(key) if row.form in (HEADS_OUT, HEADS_BIAS, HEADS_IN) else 1
    return [row.form.theirs(t, needed) for t in _cut(whole, row.shares or (1,) * len(row.theirs), row.axis)]


def _cut(whole: Tensor, shares: Sequence[int], axis: int) -> list[Tensor]:
    if len(shares) == 1:
        return [whole]
    unit, rest = divmod(whole.shape[axis], sum(shares))
    if rest:
        raise ValueError(shares)
    return list(whole.split([unit * share for share in shares], dim=axis))
