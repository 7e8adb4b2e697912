"""A model as data: stages of six columns, edited by path, compared, printed and saved as JSON."""

from hexavit.architecture.architecture import Architecture, image_size
from hexavit.architecture.stage import BLOCK, COLUMNS, Branch, Column, Option, Part, Pattern, Ramp, Stage, written
from hexavit.architecture.table import aligned

__all__ = [
    "BLOCK",
    "COLUMNS",
    "Architecture",
    "Branch",
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
