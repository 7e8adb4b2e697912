"""Images per second of the input pipeline, and the fraction of the model's rate that `train` and `predict` reach.

    python benchmarks/data.py                            # cvt_13 at 224, JPEGs of 500 x 400
    python benchmarks/data.py --model deit_tiny_patch16_224 --images 400 --cores 2
    python benchmarks/data.py --only predict --engines torch,onnxruntime,openvino

Three cases are measured in one process in interleaved rounds, so that drift of the machine affects all equally:

- decoding alone: files to inputs, for prediction (threads) and for training (processes), in images per second;
- the model alone: prepared batches, forward in each engine (as in `predict`) and forward, backward and step (as in
  `train`);
- both together: `hexavit.inference.predict` over the files with each engine, and the second epoch of
  `hexavit.training.train`, from the `metrics.csv` of its run.

The fraction is both / model alone; 1 means that the input pipeline has no cost. Where decoding and computing use the
same cores, it is at most the model's time / (the model's time + the decoding time).
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does, before PyTorch is loaded

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch.nn import functional as F

import hexavit
from hexavit.data import open_source
from hexavit.data.augment import training_transform
from hexavit.data.loader import Images, choose_workers, make_loader, worker_errors
from hexavit.images.prefetch import decode_ahead
from hexavit.inference import InputSpec, LoadedModel, predict
from hexavit.inference.engine_cache import cached_export
from hexavit.inference.exported_file import FileEngine, OpenFile
from hexavit.inference.predictor import as_predictor
from hexavit.training import TrainConfig, train

CLASSES = 10


def make_photographs(folder: Path, count: int, width: int = 500, height: int = 400) -> Path:
    """Class folders of JPEGs cut from scikit-learn's two photographs."""
    from sklearn.datasets import load_sample_images

    generator = np.random.default_rng(0)
    photographs = [Image.fromarray(each) for each in load_sample_images().images]
    for number in range(count):
        image = photographs[number % 2]
        left, top = int(generator.integers(image.width - width)), int(generator.integers(image.height - height))
        place = folder / f"class{number % CLASSES}" / f"{number:05d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        image.crop((left, top, left + width, top + height)).save(place, quality=90)
    return folder


class Bench:
    """The model, the files and the cases: each method processes all files once."""

    def __init__(self, asked: argparse.Namespace, folder: Path) -> None:
        self.asked = asked
        self.folder = folder
        self.files = sorted(folder.rglob("*.jpg"))
        torch.manual_seed(0)
        self.model: Any = hexavit.create_model(asked.model, num_classes=CLASSES, img_size=asked.img_size)
        self.spec = InputSpec.of_model(self.model)
        self.loaded = LoadedModel(tuple(map(str, range(CLASSES))), self.spec, "untrained", model=self.model)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        source = open_source(str(folder))
        images = Images(source, range(len(source.names)), training_transform(self.spec, asked.augment), seed=0)
        workers = choose_workers(asked.workers, source, free=False)
        self.loader = make_loader(images, batch_size=asked.batch_size, workers=workers, training=True)
        size = (asked.batch_size, self.spec.channels, *self.spec.size)
        self.predictors = {name: as_predictor(self.loaded, engine=name, device="cpu") for name in self._engines()}
        self.batch, self.labels = torch.randn(size), torch.randint(CLASSES, (asked.batch_size,))
        self.steps = len(self.loader)

    def decode(self) -> int:
        """For prediction."""
        return sum(1 for _ in decode_ahead(self.files, self.spec.pixels(), self.asked.cores, 2 * self.asked.batch_size))

    def augment(self) -> int:
        """For training."""
        return sum(len(labels) for _, labels in self.loader)

    def _engines(self) -> list[Any]:
        return [] if self.asked.only == "train" else self.asked.engines.split(",")

    def forward(self, engine: str) -> int:
        """The model alone in an engine, as `predict` uses it."""
        self.model.eval()
        if engine == "torch":
            with torch.inference_mode():
                for _ in range(self.steps):
                    self.model(self.batch)
        else:
            for _ in range(self.steps):
                self.exported[engine].run(self.batch.numpy())
        return self.steps * self.asked.batch_size

    @cached_property
    def exported(self) -> dict[str, FileEngine]:
        """The exported files in their engines."""
        found = {name: cached_export(self.loaded, name, features=False) for name in self._engines() if name != "torch"}
        return {name: OpenFile.of(path)() for name, path in found.items() if path is not None}

    def predict(self, engine: str) -> int:
        """`hexavit.inference.predict` with an engine."""
        files = self.files[: self.steps * self.asked.batch_size]
        self.model.eval()
        return sum(1 for _ in predict(self.predictors[engine], files, batch_size=self.asked.batch_size))

    def step(self) -> int:
        """The model alone, as `train` uses it."""
        self.model.train()
        for _ in range(self.steps):
            loss = F.cross_entropy(self.model(self.batch), self.labels, label_smoothing=0.1)
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
        return self.steps * self.asked.batch_size

    def train(self) -> float:
        """`hexavit.training.train`: images per second of its last epoch."""
        settings = {"model": self.asked.model, "data": str(self.folder), "img_size": self.asked.img_size, "epochs": 2}
        settings |= {"batch_size": self.asked.batch_size, "augment": self.asked.augment, "val_fraction": 0.01}
        settings |= {"workers": self.asked.workers, "device": "cpu"}
        with tempfile.TemporaryDirectory() as place:
            console = Console(file=io.StringIO())
            run = train(TrainConfig.from_mapping(settings), Path(place) / "run", console=console).run
            with run.history.open(newline="") as file:
                return float(list(csv.DictReader(file))[-1]["images_per_second"])


def measure(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Images per second of each run, interleaved, after one warm-up."""
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            rate = run()
            if number:
                rates[name].append(rate)
    return rates


def timed(run: Callable[[], int]) -> Callable[[], float]:
    """Images per second of a run that returns the number of images."""

    def rate() -> float:
        start = time.perf_counter()
        return run() / (time.perf_counter() - start)

    return rate


def share(rates: dict[str, list[float]], together: str, alone: str) -> float:
    """Median over the rounds of `together` / `alone`."""
    return statistics.median(a / b for a, b in zip(rates[together], rates[alone], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the input pipeline beside the model.")
    parser.add_argument("--model", default="cvt_13")
    parser.add_argument("--img-size", type=int, default=224)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--augment", default="rand", choices=["none", "shift", "crop", "rand"])
    parser.add_argument("--cores", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument(
        "--workers", type=int, default=None, help="worker processes of training; by default as in `train`"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--engines",
        default="torch",
        help="of prediction, with commas: torch, onnxruntime, openvino; exported if need be",
    )
    parser.add_argument("--only", choices=["predict", "train"], default=None)
    asked = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: asked.cores]))
    torch.set_num_threads(asked.cores)
    with tempfile.TemporaryDirectory() as place, worker_errors():
        bench = Bench(asked, make_photographs(Path(place), asked.images))
        runs: dict[str, Callable[[], float]] = {}
        if asked.only != "train":
            runs["decode"] = timed(bench.decode)
            for engine in bench.predictors:
                runs[f"forward_{engine}"] = timed(partial(bench.forward, engine))
                runs[f"predict_{engine}"] = timed(partial(bench.predict, engine))
        if asked.only != "predict":
            runs |= {"augment": timed(bench.augment), "step": timed(bench.step), "train": bench.train}
        rates = measure(runs, asked.rounds)
    found: dict[str, float] = {
        f"{name}_images_per_second": round(statistics.median(of), 1) for name, of in rates.items()
    }
    for engine in bench.predictors:
        found[f"predict_{engine}_share"] = round(share(rates, f"predict_{engine}", f"forward_{engine}"), 3)
    if "train" in rates:
        found["train_share"] = round(share(rates, "train", "step"), 3)
    print(json.dumps({"model": asked.model, "cores": asked.cores, "load": round(os.getloadavg()[0], 1), **found}))


if __name__ == "__main__":
    main()
