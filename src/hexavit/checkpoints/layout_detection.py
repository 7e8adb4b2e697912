"""Whose file it is, from its keys alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from hexavit.checkpoints.lazy_tensor import listed
from hexavit.errors import CheckpointError
from hexavit.models import LAYOUTS
from hexavit.models.layouts import Layout, Translation

_OWN = re.compile(r"(stages\.\d+\.(tokens|position|class_token|blocks|shared|norm)|head)\b.*")


@dataclass(frozen=True)
class Origin:
    """A layout, or None for hexavit's own, and the prefix that its keys lack in this file (a headless model's)."""

    layout: Layout | None
    prefix: str = ""

    @property
    def name(self) -> str:
        """The word for it: `authors`, `huggingface`, `timm`, `torchvision`, `vit_pytorch`, `hexavit`."""
        return self.layout.origin if self.layout else "hexavit"

    @property
    def family(self) -> str:
        """The family whose names these are; empty for hexavit's own."""
        return self.layout.family if self.layout else ""

    def to_ours(self, state: Mapping[str, Tensor]) -> Translation:
        """A state of this origin under our names."""
        if self.layout is None:
            return Translation(dict(state), {key: (key,) for key in state})
        if self.prefix:
            state = {self.prefix + key: tensor for key, tensor in state.items()}
        return self.layout.to_ours(state)


def find_origin(keys: Iterable[str], where: str) -> Origin:
    """The origin that explains most of the keys, and at least half of them.

    Raises:
        CheckpointError: no known origin does.
    """
    names = list(keys)
    best, most = Origin(None), sum(_OWN.fullmatch(key) is not None for key in names)
    for layout in LAYOUTS:
        for prefix in ("", layout.base) if layout.base else ("",):
            explained = layout.explained(prefix + key for key in names)
            if explained > most:
                best, most = Origin(layout, prefix), explained
    if 2 * most < len(names) or not names:
        origins = sorted({layout.origin for layout in LAYOUTS})
        families = sorted({layout.family for layout in LAYOUTS})
        raise CheckpointError(
            f"{where}: its keys ({listed(names, 5)}) are of no origin known here: hexavit, or {', '.join(origins)}, of "
            f"{', '.join(families)}"
        )
    return best
