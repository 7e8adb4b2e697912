"""Speed and memory of models beside the same models of other libraries, on several engines, in one run."""

from hexavit.benchmarking.measuring import Case, Measured, Result, contenders, measure
from hexavit.benchmarking.report import draw, growth, summary, table

__all__ = ["Case", "Measured", "Result", "contenders", "draw", "growth", "measure", "summary", "table"]
