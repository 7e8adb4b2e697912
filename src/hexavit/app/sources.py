"""What the page shows: the models, runs and studies that were given, and every named model with random weights.

The page reads no other file. Its menus hold labels; a label that is in no menu is an error.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import torch

from hexavit.architecture import Architecture
from hexavit.errors import HexavitError, RunError, nearest
from hexavit.hub.saved_folder import is_pretrained
from hexavit.images.decode import shown
from hexavit.inference import LoadedModel, load_model
from hexavit.inference.load_model import HUB
from hexavit.models import find_weight, list_models, resolve
from hexavit.network.backbone import Backbone
from hexavit.runs.compare import RunSummary, find_runs
from hexavit.runs.run_folder import Run
from hexavit.studies.run import DEFINITION

_KEPT = 2  # models in memory
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class ShownModel:
    """A model of the page.

    Attributes:
        label: of the menu.
        loaded: the model with its classes and preprocessing.
        random: True if its weights are random.
        note: a sentence on its weights.
    """

    label: str
    loaded: LoadedModel
    random: bool
    note: str


class Sources:
    """The given models, runs and studies by label.

    Args:
        given: run folders, folders with runs, folders of `hexavit study`, folders of `save_pretrained`, and names of
            models, with or without the tag of published weights.

    Raises:
        HexavitError: one of them is none of these.
    """

    def __init__(self, given: Sequence[str | Path] = ()) -> None:
        self.models: dict[str, str] = {}
        self.runs: dict[str, Run] = {}
        self.summaries: dict[str, RunSummary] = {}
        self.studies: dict[str, Path] = {}
        for each in given:
            self._add(str(each))
        self._named = list_models()
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, ShownModel] = OrderedDict()

    def _add(self, source: str) -> None:
        path = Path(source)
        if source.partition(".")[0] in list_models() and not path.is_dir():
            resolve(source)  # raises for an unknown tag
            self.models[source] = source
        elif source.startswith(HUB):
            self.models[source] = source
        elif (path / DEFINITION).is_file():
            self.studies[self._free(shown(path), self.studies)] = path
            if any((path / "cells").glob("*/config.yaml")) or any((path / "cells").glob("*/*/config.yaml")):
                self._add_runs(path / "cells")
        elif Run(path).config.is_file():
            self._add_runs(path)
        elif is_pretrained(path):
            self.models[self._free(shown(path), self.models)] = source
        elif path.is_dir():
            self._add_runs(path)
        else:
            hint = nearest(source, list_models())
            raise HexavitError(
                f"{shown(source)}: this is neither a model name, nor a folder with a run, a study or a saved model"
                + (f": {hint}" if hint.startswith("did") else "")
            )

    def _add_runs(self, folder: Path) -> None:
        for summary in find_runs(folder):
            alone = Run(folder).config.is_file()
            path = folder if alone else folder / summary.name
            label = self._free(shown(folder) if alone else f"{shown(folder)}/{summary.name}", self.runs)
            self.runs[label], self.summaries[label] = Run(path), summary
            if summary.state != "broken" and Run(path).weights("best").is_file():
                self.models[label] = str(path)

    @staticmethod
    def _free(label: str, taken: Mapping[str, object]) -> str:
        """The label, with a number behind it if it is taken."""
        number, free = 2, label
        while free in taken:
            free, number = f"{label} ({number})", number + 1
        return free

    def labels(self) -> list[str]:
        """The menu of models: those given, then every other name."""
        return [*self.models, *(name for name in self._named if name not in self.models)]

    def run(self, label: str) -> Run:
        """A run by its label.

        Raises:
            HexavitError: no run of this label was given.
        """
        return self._get(self.runs, label, "run")

    def study(self, label: str) -> Path:
        """The folder of a study by its label.

        Raises:
            HexavitError: no study of this label was given.
        """
        return self._get(self.studies, label, "study")

    @staticmethod
    def _get(known: Mapping[str, _Value], label: str, what: str) -> _Value:
        if label not in known:
            raise HexavitError(f"no {what} {shown(str(label))!r} was given to hexavit app")
        return known[label]

    def architecture(self, label: str) -> Architecture:
        """The architecture of a model of the menu.

        Raises:
            HexavitError: there is no such model, or its architecture cannot be read.
        """
        source = self._source(label)
        if source.partition(".")[0] in self._named and not Path(source).is_dir():
            return resolve(source)
        if source.startswith(HUB):
            model = cast("Backbone", self.load(label).loaded.model)
            return Architecture.from_json(model.architecture.to_json())
        file = Path(source) / "architecture.json"
        try:
            return Architecture.from_json(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"{shown(file)}: this file cannot be read") from error

    def _source(self, label: str) -> str:
        if label in self.models:
            return self.models[label]
        if label in self._named:
            return label
        raise HexavitError(f"there is no model {shown(str(label))!r} on this page")

    def load(self, label: str) -> ShownModel:
        """A model of the menu; the last two stay in memory.

        A name that was given gets its published weights, which are downloaded if needed; where there are none, or they
        cannot be had, and for every other name, the weights are random.

        Raises:
            HexavitError: there is no such model, or the files of a run or a saved folder cannot be read.
        """
        with self._lock:
            if label not in self._loaded:
                self._loaded[label] = self._load(label)
                while len(self._loaded) > _KEPT:
                    self._loaded.popitem(last=False)
            self._loaded.move_to_end(label)
            return self._loaded[label]

    def _load(self, label: str) -> ShownModel:
        source = self._source(label)
        named = source.partition(".")[0] in self._named and not Path(source).is_dir()
        published = named and find_weight(source) is not None
        reason = "no weights of it are published"
        if published and label not in self.models:
            reason = f"start hexavit app with {label} for its published weights"
        elif not named or published:
            try:
                loaded = load_model(source)
                return ShownModel(label, loaded, False, f"Weights: {shown(loaded.weights)} of {label}.")
            except HexavitError as error:
                if not named:
                    raise
                reason = str(error)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            loaded = load_model(source, untrained=True)
        note = f"Random weights: the classes and the maps of {label} mean nothing ({reason})."
        return ShownModel(label, loaded, True, note)
