"""Old import paths and names, which work for one release with a `DeprecationWarning`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED = {
    "hexavit.catalogue": "hexavit.models.catalogue",
    "hexavit.comparison": "hexavit.architecture.comparison",
    "hexavit.composition": "hexavit.network.composition",
    "hexavit.ecosystem": "hexavit.integrations",
    "hexavit.editing": "hexavit.architecture.editing",
    "hexavit.inference.ahead": "hexavit.images.prefetch",
    "hexavit.inference.bands": "hexavit.images.multichannel",
    "hexavit.inference.images": "hexavit.images.decode",
    "hexavit.inference.listing": "hexavit.images.listing",
    "hexavit.inference.opening": "hexavit.inference.load_model",
    "hexavit.inference.preprocess": "hexavit.images.preprocess",
    "hexavit.inference.run": "hexavit.runs.run_folder",
    "hexavit.initialisation": "hexavit.network.initialisation",
    "hexavit.layouts": "hexavit.models.layouts",
    "hexavit.training.augment": "hexavit.data.augment",
    "hexavit.training.choices.choosing": "hexavit.training.auto_config.rules",
    "hexavit.training.choices.situation": "hexavit.training.auto_config.facts",
    "hexavit.training.choices": "hexavit.training.auto_config",
    "hexavit.training.data.loading": "hexavit.data.loader",
    "hexavit.training.data": "hexavit.data",
    "hexavit.training.judging.evaluation": "hexavit.evaluation.evaluate",
    "hexavit.training.judging.probing": "hexavit.evaluation.probing",
    "hexavit.training.judging.report": "hexavit.evaluation.html_report",
    "hexavit.training.judging": "hexavit.evaluation",
    "hexavit.training.loop.batch_norm": "hexavit.training.loop.sync_batch_norm",
    "hexavit.training.objectives.lessons": "hexavit.training.objectives.objective",
    "hexavit.training.objectives.teacher": "hexavit.teachers.teacher",
    "hexavit.training.runs": "hexavit.runs.compare",
}
"""Modules that the documentation of 0.1 named, each with its new path. Submodules of a moved package move with it."""


def new_path(name: str) -> str | None:
    """The new path of a module that moved, or None."""
    for old in sorted(MOVED, key=len, reverse=True):
        if name == old or name.startswith(old + "."):
            return MOVED[old] + name.removeprefix(old)
    return None


class _MovedFinder(MetaPathFinder, Loader):
    """Imports a moved module from its new path under its old name."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if new_path(name) else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Nothing: `exec_module` puts the real module in its place."""

    def exec_module(self, module: ModuleType) -> None:
        """Import the new path, and let the old name stand for it."""
        new = new_path(module.__name__)
        assert new is not None  # `find_spec` saw to it
        warnings.warn(f"{module.__name__} is now {new}; the old path will be removed", DeprecationWarning, stacklevel=2)
        sys.modules[module.__name__] = import_module(new)


def install() -> None:
    """Let old module paths be imported."""
    if not any(isinstance(finder, _MovedFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _MovedFinder())  # before the empty folders of an updated checkout


def renamed(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__` that serves old names.

    Args:
        module: the module's `__name__`.
        names: old name to the dotted path of the new object, such as `{"open_model": "hexavit.inference.load_model"}`;
            a name without a dot is an attribute of the module itself.
    """

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        target = names[name]
        home, _, attribute = target.rpartition(".")
        warnings.warn(
            f"{module}.{name} is now {target}; the old name will be removed", DeprecationWarning, stacklevel=2
        )
        return getattr(import_module(home or module), attribute)

    return find
