"""Studies: train variants of a model side by side and read from a table what the change does."""

from hexavit.studies.definition import Cell, Published, Study, StudyError, Test, crossed

__all__ = ["Cell", "Published", "Study", "StudyError", "Test", "crossed"]
