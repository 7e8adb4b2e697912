"""Models for deployment: files for engines, and faster modules for PyTorch on CPUs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hexavit.export.cpu import OptimizationReport, Swap, optimize

if TYPE_CHECKING:
    from hexavit.export.description import ExportDescription, read_description
    from hexavit.export.export import Check, ExportReport, export_model

__all__ = [
    "Check",
    "ExportDescription",
    "ExportReport",
    "OptimizationReport",
    "Swap",
    "export_model",
    "optimize",
    "read_description",
]

# Loaded when they are used: they need Pillow, and `import hexavit` needs PyTorch alone.
_MODULES = {
    "description": ("ExportDescription", "read_description"),
    "export": ("Check", "ExportReport", "export_model"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"hexavit.export.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
