"""A model that is opened in PyTorch, and may be exported for another engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch

from hexavit.errors import HexavitError
from hexavit.inference.checksum import model_checksum
from hexavit.inference.engines import EngineName, TorchEngine
from hexavit.inference.load_model import LoadedModel
from hexavit.network.backbone import Backbone

Wanted = Literal["classes", "features", "both"]
"""What is to be computed; an engine other than PyTorch computes one of them."""


class OpenModel:
    """Opens a model in PyTorch.

    Args:
        loaded: the model.
        device: where it computes.
        wanted: the outputs for which another engine may take its place; None for PyTorch alone.
        reload: loads it again in another process; None to send the weights there.
    """

    engine: EngineName = "torch"
    preprocesses = False

    def __init__(
        self,
        loaded: LoadedModel,
        device: torch.device,
        wanted: Wanted | None = None,
        reload: Callable[[], LoadedModel] | None = None,
    ) -> None:
        self.device, self.wanted = device, wanted
        self._loaded: LoadedModel | None = loaded
        self._reload = reload

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_loaded": self._loaded if self._reload is None else None}

    def __call__(self) -> TorchEngine:
        loaded = self.loaded()
        return TorchEngine(loaded.model.to(self.device), loaded.input_spec, self.device)

    def loaded(self) -> LoadedModel:
        """The model, loaded again if need be."""
        if self._loaded is None:
            assert self._reload is not None  # else it was sent
            self._loaded = self._reload()
        return self._loaded

    def checksum(self) -> str:
        """Of the weights."""
        return model_checksum(self.loaded().model)

    def export(self, engine: EngineName, *, make: bool = True) -> Path | None:
        """The file for another engine, as `cached_export` gives it; None where no engine can take its place."""
        from hexavit.inference.engine_cache import cached_export  # it imports torch.export, which takes time

        loaded = self.loaded()
        if self.wanted == "both" and loaded.classes:
            raise HexavitError("an engine computes classes or features, not both; use the engine torch")
        return cached_export(loaded, engine, features=self.wanted != "classes", make=make)

    def replaceable(self) -> bool:
        """Whether another engine may compute it: a float32 model of hexavit on a CPU, for one output."""
        loaded = self.loaded()
        in_float32 = all(each.dtype == torch.float32 for each in loaded.model.parameters())
        one_output = self.wanted is not None and not (self.wanted == "both" and loaded.classes)
        return self.device.type == "cpu" and isinstance(loaded.model, Backbone) and in_float32 and one_output
