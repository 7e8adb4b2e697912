"""Recognition of a checkpoint's layout from its keys alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from torch import Tensor

from hexavit.architecture import Architecture
from hexavit.checkpoints.lazy_tensor import listed
from hexavit.errors import CheckpointError
from hexavit.models import LAYOUTS
from hexavit.models.layouts import Layout, Translation, key_shapes

_OWN = re.compile(r"(stages\.\d+\.(tokens|position|class_token|blocks|shared|norm)|head)\b.*")


@dataclass(frozen=True)
class Origin:
    """A layout, or None for hexavit's own, and the prefix that its keys lack in this file (a headless model's)."""

    layout: Layout | None
    prefix: str = ""

    @property
    def name(self) -> str:
        """Its name: `authors`, `huggingface`, `timm`, `torchvision`, `vit_pytorch`, `hexavit`."""
        return self.layout.origin if self.layout else "hexavit"

    @property
    def family(self) -> str:
        """The family of the layout; empty for hexavit's own."""
        return self.layout.family if self.layout else ""

    @property
    def places(self) -> Callable[[Architecture], Mapping[str, str]] | None:
        """Where modules that are numbered through all stages stand in an architecture."""
        return self.layout.places if self.layout else None

    @property
    def eps_in_config(self) -> bool:
        """Whether the layout's library uses the `layer_norm_eps` of `config.json`."""
        return self.layout is None or self.layout.eps_in_config

    def to_ours(self, state: Mapping[str, Tensor]) -> Translation:
        """A state of this origin under hexavit's names."""
        if self.layout is None:
            return Translation(dict(state), {key: (key,) for key in state})
        if self.prefix:
            state = {self.prefix + key: tensor for key, tensor in state.items()}
        return self.layout.to_ours(state)


def find_origin(keys: Iterable[str], where: str) -> Origin:
    """The origin that explains most of the keys, and at least half of them.

    An index from the shape of a key (its numbers and last name left open) to the layouts with such a row gives an upper
    bound for every layout. Regular expressions are matched only for layouts whose bound exceeds the best count.

    Raises:
        CheckpointError: no known origin does.
    """
    names = list(keys)
    best, most = Origin(None), sum(_OWN.fullmatch(key) is not None for key in names)
    bounds: Counter[int] = Counter()
    for shapes, count in Counter(map(key_shapes, names)).items():
        for number in set().union(*(_index().get(shape, ()) for shape in shapes)):
            bounds[number] += count
    # Of equal bounds the first layout comes first, as an unnamed file is taken for the first family.
    for number, bound in sorted(bounds.items(), key=lambda item: (-item[1], item[0])):
        if bound <= most:
            break
        origin = _candidates()[number]
        assert origin.layout is not None
        explained = origin.layout.explained(origin.prefix + key for key in names)
        if explained > most:
            best, most = origin, explained
    if 2 * most < len(names) or not names:
        origins = sorted({layout.origin for layout in LAYOUTS})
        families = sorted({layout.family for layout in LAYOUTS})
        raise CheckpointError(
            f"{where}: its keys ({listed(names, 5)}) match no known layout: hexavit, or {', '.join(origins)}, of "
            f"{', '.join(families)}"
        )
    return best


@cache
def _candidates() -> tuple[Origin, ...]:
    """Every layout, and once more without its base for the file of a model without a head."""
    return tuple(
        Origin(layout, prefix) for layout in LAYOUTS for prefix in (("", layout.base) if layout.base else ("",))
    )


@cache
def _index() -> dict[str, set[int]]:
    """The candidates that have a row for a key of a shape."""
    index: dict[str, set[int]] = {}
    for number, origin in enumerate(_candidates()):
        assert origin.layout is not None
        for shape in origin.layout.shapes:
            if shape.startswith(origin.prefix):
                index.setdefault(shape.removeprefix(origin.prefix), set()).add(number)
    return index
