"""Checkpoints of every known origin: read safely, recognised, loaded, and written back in any layout."""

from hexavit.checkpoints.conversion import TARGETS, ConvertReport, convert
from hexavit.checkpoints.inspection import Facts, inspect_checkpoint
from hexavit.checkpoints.loading import load_checkpoint
from hexavit.checkpoints.report import LoadReport

__all__ = ["TARGETS", "ConvertReport", "Facts", "LoadReport", "convert", "inspect_checkpoint", "load_checkpoint"]
