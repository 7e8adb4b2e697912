"""Reading a run folder: its settings, class names, preprocessing and trained model. Nothing is unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from torch import nn

from hexavit.errors import RunError
from hexavit.images.preprocess import InputSpec
from hexavit.run_paths import RunPaths, Weights

__all__ = ["Run", "Weights"]


class Run(RunPaths):
    """The folder that a training run writes. Its properties are paths, its methods read files."""

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """A run that has trained weights.

        Raises:
            RunError: the folder is not a run folder, or its run has not finished an epoch.
        """
        run = cls(Path(path))
        if not run.path.is_dir():
            raise RunError(f"{run.path}: there is no such run folder")
        if not run.config.is_file():
            raise RunError(f"{run.path}: this is not a run folder, as it holds no {run.config.name}")
        if not run.weights("best").is_file():
            raise RunError(f"{run.path}: this run has no weights yet; let its training finish an epoch")
        return run

    def split_record(self) -> dict[str, Any]:
        """``data`` (the data set), ``parts`` (names of the images of each split) and ``skipped`` (name to reason)."""
        record: dict[str, Any] = self._read_json(self.split_file)
        return record

    def settings(self) -> dict[str, Any]:
        """The settings in ``config.yaml``."""
        import yaml

        try:
            found = yaml.safe_load(self._read(self.config))
        except yaml.YAMLError as error:
            raise RunError(f"{self.config}: this is not YAML ({' '.join(str(error).split())})") from error
        if not isinstance(found, dict):
            raise RunError(f"{self.config}: a configuration is a list of `setting: value` lines")
        return found

    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return tuple(self._read_json(self.classes_file))

    def input_spec(self) -> InputSpec:
        """Preprocessing of images."""
        return InputSpec.from_dict(self._read_json(self.input_file))

    def model(self, which: Weights = "best") -> nn.Module:
        """The trained model in evaluation mode, on the CPU.

        Raises:
            RunError: the weights are missing, or do not fit ``architecture.json``.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        model = self.build()
        try:
            model.load_state_dict(load_file(self.weights(which)))
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise RunError(f"{self.weights(which)}: these weights cannot be loaded ({reason})") from error
        return model.eval()

    def build(self) -> nn.Module:
        """The model that ``architecture.json`` describes, with fresh weights."""
        import hexavit

        architecture = hexavit.Architecture.from_json(self._read(self.architecture))
        return cast(
            "nn.Module",
            hexavit.create_model(
                architecture,
                num_classes=architecture.num_classes,
                in_chans=architecture.in_chans,
                img_size=architecture.img_size,
            ),
        )

    def _read_json(self, path: Path) -> Any:
        try:
            return json.loads(self._read(path))
        except json.JSONDecodeError as error:
            raise RunError(f"{path}: this file of the run is damaged ({error})") from error

    def _read(self, path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8")
        except OSError as error:
            raise RunError(f"{path}: this file of the run cannot be read ({error.strerror})") from error
