"""Finding the weights in what a file holds: bare, or under an entry beside an optimizer and arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hexavit.checkpoints.lazy_tensor import Contents, Stored, listed, printable
from hexavit.checkpoints.unpickler import Foreign, PlainDict
from hexavit.errors import CheckpointError, nearest

# Plain weights before their moving average: a file does not say which of the two its reported accuracy is of.
_ENTRIES = (
    *("state_dict", "model", "model_state_dict", "model_state"),
    *("state_dict_ema", "model_ema", "ema", "module", "net", "teacher"),
)
_MAX_TENSORS = 20_000  # the largest models here have some thousand
_WRAPPERS = ("module.", "model.", "net.", "network.", "backbone.")
_INSIDE = ("_fsdp_wrapped_module.", "_orig_mod.", "_checkpoint_wrapped_module.")
"""Prefixes of PyTorch's wrappers, which may stand before any module's name."""


@dataclass(frozen=True)
class Weights:
    """The weights of a file: `entry` is where they stood (empty for bare ones), `others` what stood beside them."""

    tensors: Mapping[str, Stored]
    entry: str
    prefix: str
    others: Mapping[str, str]


def find_weights(contents: Contents, entry: str | None = None, prefix: str | None = None) -> Weights:
    """The state dict in a file's contents, without the prefixes that wrappers put before its keys.

    Raises:
        CheckpointError: there is none, there are several and none has a usual name, or no such `entry`.
    """
    candidates = dict(_candidates(contents.tree))
    if not candidates:
        foreign = f": it holds {listed(contents.foreign, 5)}" if contents.foreign else ""
        raise CheckpointError(f"{contents.where}: there are no weights in it{foreign}")
    if entry is None:
        usual = [name for name in ("", *_ENTRIES) if name in candidates]
        if not usual and len(candidates) > 1:
            raise CheckpointError(f"{contents.where} holds weights under {listed(candidates)}: say which with entry=")
        entry = usual[0] if usual else next(iter(candidates))
    if entry not in candidates:
        raise CheckpointError(f"{contents.where} has no weights under {entry!r}: {nearest(entry, candidates)}")
    held = candidates[entry]
    tensors = {key: value for key, value in held.items() if isinstance(value, Stored)}
    if len(tensors) > _MAX_TENSORS:
        raise CheckpointError(f"{contents.where} holds {len(tensors):,} tensors, more than any model here")
    if odd := [key for key in tensors if printable(key, 300) != key]:
        raise CheckpointError(f"{contents.where}: {printable(odd[0])!r} is no name of a tensor: the file is damaged")
    others = {printable(str(key)): _describe(value) for key, value in held.items() if not isinstance(value, Stored)}
    if entry:
        root = contents.tree
        others |= {printable(str(key)): _describe(value) for key, value in root.items() if key != entry.split(".")[0]}
    for wrapper in _INSIDE:
        tensors = {key.replace(wrapper, ""): value for key, value in tensors.items()}
    if prefix is not None:
        front = prefix if not prefix or prefix.endswith(".") else f"{prefix}."
        kept = _under(front, tensors, others)
        if not kept:
            firsts = sorted({key.partition(".")[0] for key in tensors})
            raise CheckpointError(f"{contents.where} has no keys under {front!r}, only under {listed(firsts, 8)}")
        return Weights(kept, entry, front, others)
    stripped = ""
    while found := next((p for p in _WRAPPERS if 2 * sum(key.startswith(p) for key in tensors) > len(tensors)), ""):
        tensors = _under(found, tensors, others)
        stripped += found
    return Weights(tensors, entry, stripped, others)


def _under(prefix: str, tensors: Mapping[str, Stored], others: dict[str, str]) -> dict[str, Stored]:
    """The tensors under a prefix, without it; the rest is described in `others`."""
    others |= {key: _describe(value) for key, value in tensors.items() if not key.startswith(prefix)}
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _candidates(tree: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """Every mapping with tensors by name: the whole, its entries, and one level deeper."""
    if not isinstance(tree, Mapping):
        return []
    found = [("", tree)] if _is_state(tree) else []
    for key, value in tree.items():
        if isinstance(key, str) and isinstance(value, Mapping):
            if _is_state(value):
                found.append((key, value))
            else:
                inner = ((k, v) for k, v in value.items() if isinstance(k, str) and isinstance(v, Mapping))
                found += [(f"{key}.{k}", v) for k, v in inner if _is_state(v)]
    return found


def _is_state(value: Mapping[Any, Any]) -> bool:
    tensors = sum(isinstance(key, str) and isinstance(item, Stored) for key, item in value.items())
    return tensors > 0 and 2 * tensors >= len(value)


def _describe(value: Any) -> str:
    """What an entry is, in a few words, without looking deep into it."""
    if isinstance(value, Foreign):
        return f"{value.name}, not created"
    if isinstance(value, Stored):
        return f"tensor {tuple(value.shape)}"
    if isinstance(value, Mapping | list | tuple):
        kind = "dict" if isinstance(value, PlainDict) else type(value).__name__
        return f"{kind} of {len(value)}"
    return printable(repr(value), 60) if isinstance(value, str | int | float | None) else type(value).__name__
