"""A model as data: stages of six columns, edited by path, compared, printed and saved as JSON."""

from hexavit.architecture.architecture import (
    COLUMNS,
    Architecture,
    Column,
    Option,
    Part,
    Pattern,
    Ramp,
    Stage,
    aligned,
    image_size,
    written,
)

__all__ = [
    "COLUMNS",
    "Architecture",
    "Column",
    "Option",
    "Part",
    "Pattern",
    "Ramp",
    "Stage",
    "aligned",
    "image_size",
    "written",
]
