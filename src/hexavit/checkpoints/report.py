"""What was done with a checkpoint, key by key."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

_SHOWN = 12


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor of a file and of the model.

    `loaded` and `missing` are the model's keys, `left_over` and `dropped` the file's. `adapted` says what was done to
    a tensor before it was loaded, `missing` why the model's own start was kept, `left_over` what had no place in the
    model, `dropped` what was left aside on purpose. `notes` are sentences on the whole.
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

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        place = f", entry {self.entry!r}" if self.entry else ""
        lines = [f"{self.source}: {self.origin} ({self.family}){place}", f"  loaded     {len(self.loaded)} tensors"]
        for name in ("adapted", "missing", "left_over", "dropped"):
            told: dict[str, str] = getattr(self, name)
            groups: dict[str, list[str]] = {}
            for key, why in told.items():
                groups.setdefault(why, []).append(key)
            for i, (why, keys) in enumerate(groups.items()):
                head = name.replace("_", " ") if i == 0 else ""
                more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
                lines.append(f"  {head:<10} {len(keys)}: {why}: {', '.join(keys[:_SHOWN])}{more}")
        return "\n".join([*lines, *(f"  note       {note}" for note in self.notes)])
