"""Cost of a model: parameters, multiply-adds and activation bytes."""

from hexavit.profiling.cost import CLASS_TOKEN, Cost, Place
from hexavit.profiling.formulas import Formula, formula_table, formulas
from hexavit.profiling.profiler import Profile, costs, profile

__all__ = ["CLASS_TOKEN", "Cost", "Formula", "Place", "Profile", "costs", "formula_table", "formulas", "profile"]
