"""The counted cost of a place in a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass

CLASS_TOKEN = "class token"
Place = tuple[str, str]
"""A stage (its number, or `head`) and a kind of part."""


@dataclass(frozen=True)
class Cost:
    """Counted cost of one image.

    Attributes:
        learned: number of values that are trained.
        constants: number of values in tables that an authors' state dict may hold as parameters and that are not
            trained.
        macs: multiply-adds.
        activation_bytes: as `profile` defines them.
    """

    learned: int = 0
    constants: int = 0
    macs: int = 0
    activation_bytes: int = 0

    @property
    def parameters(self) -> int:
        """Learned values and constants."""
        return self.learned + self.constants

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.learned + other.learned,
            self.constants + other.constants,
            self.macs + other.macs,
            self.activation_bytes + other.activation_bytes,
        )

    def as_dict(self) -> dict[str, int]:
        """The figures by name, `parameters` first."""
        return {"parameters": self.parameters, **asdict(self)}
