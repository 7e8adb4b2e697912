"""Training: data, recipes, objectives and the loop. What is named here is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hexavit.training.config import TrainConfig
    from hexavit.training.judging.evaluation import Evaluation, evaluate
    from hexavit.training.trainer import Trained, resume, train

__all__ = ["Evaluation", "TrainConfig", "Trained", "evaluate", "resume", "train"]

_HOMES = {
    "Evaluation": "judging.evaluation",
    "TrainConfig": "config",
    "Trained": "trainer",
    "evaluate": "judging.evaluation",
    "resume": "trainer",
    "train": "trainer",
}


def __getattr__(name: str) -> Any:
    # Lightning takes seconds to import, and `hexavit train --help` does without it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
