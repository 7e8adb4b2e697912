"""A run folder: its layout in one place, and the trained model read back from it without unpickling anything."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from torch import nn

from hexavit.errors import RunError
from hexavit.images.preprocess import InputSpec

Weights = Literal["best", "last"]


@dataclass(frozen=True)
class Run:
    """What one training leaves behind. The paths are properties, there or not; the methods read.

    Attributes:
        path: the folder.
    """

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """A run whose model can be used.

        Raises:
            RunError: when the folder is not a run, or its training has not finished one epoch.
        """
        run = cls(Path(path))
        if not run.path.is_dir():
            raise RunError(f"{run.path}: there is no such run folder")
        if not run.config.is_file():
            raise RunError(f"{run.path}: this is not a run folder, as it holds no {run.config.name}")
        if not run.weights("best").is_file():
            raise RunError(f"{run.path}: this run has no weights yet; let its training finish an epoch")
        return run

    @property
    def config(self) -> Path:
        """Every setting of the training."""
        return self.path / "config.yaml"

    @property
    def architecture(self) -> Path:
        """The model as data."""
        return self.path / "architecture.json"

    @property
    def classes_file(self) -> Path:
        """The names of the classes, in the order of the logits."""
        return self.path / "classes.json"

    @property
    def input_file(self) -> Path:
        """How an image becomes the model's input."""
        return self.path / "input.json"

    @property
    def split_file(self) -> Path:
        """Which image was trained on, which was held out, and which was broken and left out, by name."""
        return self.path / "split.json"

    @property
    def checkpoint(self) -> Path:
        """The whole state of the training, for ``--resume``."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def history(self) -> Path:
        """One row of metrics an epoch."""
        return self.path / "metrics.csv"

    @property
    def metrics(self) -> Path:
        """The final metrics; it is there once the training has finished."""
        return self.path / "metrics.json"

    @property
    def curves(self) -> Path:
        """Loss and accuracy over the epochs, drawn."""
        return self.path / "curves.png"

    @property
    def tensorboard(self) -> Path:
        """Event files for TensorBoard."""
        return self.path / "tensorboard"

    @property
    def wandb(self) -> Path:
        """What Weights & Biases writes, where a training logs there too."""
        return self.path / "wandb"

    @property
    def examples(self) -> Path:
        """Held-out images that the demo leaves for trying ``hexavit predict``."""
        return self.path / "examples"

    def weights(self, which: Weights) -> Path:
        """The weights of the epoch with the best held-out accuracy, or of the last one."""
        return self.path / "weights" / f"{which}.safetensors"

    def split_record(self) -> dict[str, Any]:
        """``data`` (what was trained on), ``parts`` (names of images) and ``skipped`` (name to reason)."""
        record: dict[str, Any] = self._read_json(self.split_file)
        return record

    def settings(self) -> dict[str, Any]:
        """The settings of ``config.yaml``, as written."""
        import yaml

        try:
            found = yaml.safe_load(self._read(self.config))
        except yaml.YAMLError as error:
            raise RunError(f"{self.config}: this is not YAML ({' '.join(str(error).split())})") from error
        if not isinstance(found, dict):
            raise RunError(f"{self.config}: a configuration is a list of `setting: value` lines")
        return found

    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits."""
        return tuple(self._read_json(self.classes_file))

    def input_spec(self) -> InputSpec:
        """How an image becomes the model's input."""
        return InputSpec.from_dict(self._read_json(self.input_file))

    def model(self, which: Weights = "best") -> nn.Module:
        """The trained model in evaluation mode, on the CPU.

        Raises:
            RunError: when the weights are missing, or do not fit ``architecture.json``.
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
