"""Checkpoints of every known origin: read safely, recognised, loaded, and written back in any layout."""

from hexavit.checkpoints.loading import load_checkpoint
from hexavit.checkpoints.report import LoadReport

__all__ = ["LoadReport", "load_checkpoint"]
