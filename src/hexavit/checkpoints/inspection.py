"""What a file of weights is: whose, of which model, how large, and what else is in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hexavit.architecture import Architecture
from hexavit.checkpoints.lazy_tensor import listed
from hexavit.checkpoints.loading import read_state
from hexavit.checkpoints.model_detection import Sketch, matches
from hexavit.models import model_entry


@dataclass(frozen=True)
class Facts:
    """A file in figures. `model` is the named model with just these tensors, if there is one; `twins` are the others
    that shapes cannot tell from it; `edits` what differs from it (path=value); `img_size` is known where a position
    table tells it."""

    source: str
    format: str
    origin: str
    entry: str
    model: str | None
    twins: tuple[str, ...]
    edits: tuple[str, ...]
    dims: tuple[int, ...]
    depths: tuple[int, ...]
    classes: int
    in_chans: int
    img_size: tuple[int, int] | None
    tensors: int
    parameters: int
    bytes: int
    dtypes: tuple[str, ...]
    unexplained: tuple[str, ...]
    others: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        model = self.model or "none of the named models"
        size = f"{self.tensors} tensors, {self.parameters:,} numbers, {self.bytes / 1e6:.1f} MB"
        rows = [
            ("format", self.format + (f", weights under {self.entry!r}" if self.entry else "")),
            ("origin", self.origin),
            ("model", model + (f", edited: {', '.join(self.edits)}" if self.edits else "")),
            *([("or", f"{listed(self.twins, 8)}: their shapes are the same")] if self.twins else []),
            ("stages", ", ".join(f"{depth} x {dim}" for dim, depth in zip(self.dims, self.depths, strict=True))),
            ("classes", str(self.classes) if self.classes else "no head"),
            ("channels", str(self.in_chans)),
            ("size", f"{size} of {', '.join(self.dtypes)}"),
        ]
        if self.img_size:
            rows.insert(-1, ("built for", f"{self.img_size[0]} x {self.img_size[1]} pixels"))
        if self.unexplained:
            rows.append(("unexplained", listed(self.unexplained, 8)))
        rows += [("beside", f"{key}: {what}") for key, what in self.others.items()]
        return "\n".join([self.source, *(f"  {name:<12}{text}" for name, text in rows)])


def inspect_checkpoint(
    source: str | Path | Mapping[str, Any], *, entry: str | None = None, prefix: str | None = None
) -> Facts:
    """What a checkpoint is, without a model to load it into.

    Args:
        source: what `load_checkpoint` reads.
        entry: which weights, for a file with several.
        prefix: the prefix of their keys; by default prefixes of common wrappers are removed.

    Raises:
        CheckpointError: a file that cannot be read safely, or is of no known origin.
    """
    contents, weights, origin, done = read_state(source, entry, prefix)
    every = matches(done.state, origin.family, origin.places)
    found = next(iter(every), None)
    if found is not None and origin.layout is not None:
        done = origin.layout.placed(done, found)
    sketch = Sketch.of(done.state)
    stored = weights.tensors.values()
    family = f" ({origin.layout.family})" if origin.layout else ""
    table = any(re.fullmatch(r"stages\.\d+\.position\.table", key) for key in done.state)
    return Facts(
        source=contents.where,
        format=contents.format,
        origin=origin.name + family,
        entry=weights.entry,
        model=found.name if found else None,
        twins=tuple(each.name for each in every[1:]),
        edits=_edits(found) if found else (),
        dims=sketch.dims,
        depths=sketch.depths,
        classes=sketch.num_classes,
        in_chans=sketch.in_chans,
        img_size=found.img_size if found and (table or found.img_size != named_size(found)) else None,
        tensors=len(weights.tensors),
        parameters=sum(t.numel() for key, t in done.state.items() if not key.endswith(".num_batches_tracked")),
        bytes=sum(each.bytes for each in stored),
        dtypes=tuple(sorted({str(each.dtype).removeprefix("torch.") for each in stored})),
        unexplained=(*done.unexplained, *done.broken),
        others={**weights.others, **dict.fromkeys(done.dropped, "no model reads it"), **_foreign(contents.foreign)},
    )


def named_size(found: Architecture) -> tuple[int, int]:
    """The image size of the named model."""
    return model_entry(found.name).architecture.img_size


def _foreign(names: Mapping[str, int]) -> dict[str, str]:
    return dict.fromkeys(names, "a class or function, not created")


def _edits(found: Architecture) -> tuple[str, ...]:
    """How an architecture differs from the named one in its parts."""
    plain = model_entry(found.name).architecture.with_(
        num_classes=found.num_classes, in_chans=found.in_chans, img_size=found.img_size
    )
    return tuple(f"{path}={value}" for path, _, value in plain.diff(found) if value is not None)
