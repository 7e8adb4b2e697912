"""What was done with a checkpoint, key by key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

_FEW = 4  # keys that are shown as they are


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor of a file and of the model.

    `loaded` and `missing` are the model's keys, `left_over` and `dropped` the file's. `adapted` says what was done to
    a tensor before it was loaded, `missing` why the model's own start was kept, `left_over` what had no place in the
    model, `dropped` what was left aside on purpose. `notes` are sentences on the whole.
    `loaded_numbers` of `model_numbers` were loaded; `share` is their ratio.
    """

    source: str
    origin: str
    family: str
    entry: str
    loaded: tuple[str, ...] = ()
    adapted: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    left_over: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    loaded_numbers: int = 0
    model_numbers: int = 0

    @property
    def share(self) -> float:
        """The share of the model's numbers that was loaded, from 0 to 1."""
        return min(1.0, self.loaded_numbers / self.model_numbers) if self.model_numbers else 1.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        place = f", entry {self.entry!r}" if self.entry else ""
        lines = [f"{self.source}: {self.origin} ({self.family}){place}", f"  loaded     {len(self.loaded)} tensors"]
        for name in ("adapted", "missing", "left_over", "dropped"):
            reasons: dict[str, str] = getattr(self, name)
            groups: dict[str, list[str]] = {}
            for key, why in reasons.items():
                groups.setdefault(why, []).append(key)
            for i, (why, keys) in enumerate(groups.items()):
                head = name.replace("_", " ") if i == 0 else ""
                lines.append(f"  {head:<10} {_gathered(keys)}: {why}")
        return "\n".join([*lines, *(f"  note       {note}" for note in self.notes)])


def _gathered(keys: Sequence[str]) -> str:
    """A few keys as they are, many by the module that they share, with their number."""
    if len(keys) <= _FEW:
        return ", ".join(keys)
    for depth in range(6, 0, -1):
        groups = Counter(".".join(key.split(".")[:depth]) for key in keys)
        if len(groups) <= _FEW:
            return ", ".join(f"{name}.* ({count})" if count > 1 else name for name, count in groups.items())
    return f"{keys[0]} and {len(keys) - 1} more"
