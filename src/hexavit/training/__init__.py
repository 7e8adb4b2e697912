"""Training: data, recipes, objectives and the loop. What is named here is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hexavit.evaluation.evaluate import Evaluation, evaluate
    from hexavit.training.config import TrainConfig
    from hexavit.training.trainer import Trained, resume, train

__all__ = ["Evaluation", "TrainConfig", "Trained", "evaluate", "resume", "train"]

_HOMES = {
    "Evaluation": "hexavit.evaluation.evaluate",
    "TrainConfig": "hexavit.training.config",
    "Trained": "hexavit.training.trainer",
    "evaluate": "hexavit.evaluation.evaluate",
    "resume": "hexavit.training.trainer",
    "train": "hexavit.training.trainer",
}


def __getattr__(name: str) -> Any:
    # Lightning takes seconds to import, and `hexavit train --help` does without it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
