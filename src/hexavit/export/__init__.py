"""Faster forms of a model for deployment."""

from hexavit.export.cpu import OptimizationReport, Swap, optimize

__all__ = ["OptimizationReport", "Swap", "optimize"]
