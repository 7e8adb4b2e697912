"""Cost of a model: parameters, multiply-adds and activation bytes."""

from hexavit.profiling.profiler import CLASS_TOKEN, Cost, Place, Profile, costs, profile

__all__ = ["CLASS_TOKEN", "Cost", "Place", "Profile", "costs", "profile"]
