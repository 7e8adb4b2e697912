"""Train nano models on Fashion-MNIST and compare the results with what the papers claim.

    python benchmarks/evidence.py --out docs/results.md

The data is that of Debian's package dataset-fashion-mnist (`--data` names another copy). Five models are trained from
scratch with one set of settings, then DeiT with three kinds of distillation and LV-ViT with and without label maps. The
teacher is a small ResNet of timm, trained first, on the same images. Every run is continued where an interrupted call
left it, and a result that is there is not computed again; each result is written into the page at once.

    python benchmarks/evidence.py --work runs/try --train-images 200 --epochs 1 --seeds 2 --test-images 300

does all of it in a few minutes, to try it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
from measure import processor
from numpy.typing import NDArray
from rich.console import Console
from safetensors.torch import save_file
from torch.nn import functional as F

from hexavit.data import open_source
from hexavit.data.augment import training_transform
from hexavit.data.batches import read_batches
from hexavit.data.loader import Images, make_loader
from hexavit.data.split import make_split
from hexavit.files import replacing, write_json
from hexavit.images.preprocess import InputSpec
from hexavit.inference import Run
from hexavit.models import model_entry
from hexavit.studies.statistics import Difference, paired
from hexavit.teachers import load_any_model, make_label_maps
from hexavit.training import TrainConfig, resume, train

DATA = "fashion_mnist:/usr/share/datasets/fashion-mnist"
SETTINGS: dict[str, Any] = {
    "img_size": 32,
    "in_chans": 1,
    "batch_size": 64,
    "lr": 2e-3,
    "warmup_epochs": 1.0,
    "weight_decay": 0.05,
    "label_smoothing": 0.1,
    "drop_path": 0.0,
    "augment": "flip",
    "val_fraction": 0.02,
    "device": "cpu",
    "workers": 0,
}
SINGLE = {"overrides": ["head=class_token"]}
RUNS: dict[str, dict[str, Any]] = {
    "CvT": {"model": "cvt_nano"},
    "PVT v2": {"model": "pvt_v2_nano"},
    "Swin": {"model": "swin_nano"},
    "DeiT": {"model": "deit_nano", **SINGLE},
    "LV-ViT": {"model": "lvvit_nano", "mix_token": True},
    "DeiT, soft": {
        **{"model": "deit_nano", **SINGLE, "teacher": "TEACHER", "distillation": "soft"},
        **{"distillation_alpha": 0.1, "distillation_tau": 3.0},
    },
    "DeiT, hard": {"model": "deit_nano", **SINGLE, "teacher": "TEACHER"},
    "DeiT, hard, token": {"model": "deit_nano", "teacher": "TEACHER"},
    "LV-ViT, label maps": {"model": "lvvit_nano", "mix_token": True, "label_maps": "MAPS"},
}
"""Settings of each run besides `SETTINGS`."""


class Claim(NamedTuple):
    """What a paper says of two runs.

    Attributes:
        better: a run.
        than: the run that it is compared with.
        source: paper and table; empty for published accuracies on ImageNet-1k.
        margin: 0 if the paper says that the first is better; else it says that it is not, by more than this.
    """

    better: str
    than: str
    source: str = ""
    margin: float = 0.0

    def in_words(self) -> str:
        return f"{self.better} {'is not better than' if self.margin else '>'} {self.than}"

    def where(self) -> str:
        """The source in words."""
        if self.source:
            return self.source
        published = ((name, model_entry(name).published[0].top1) for name in (SIZES[self.better], SIZES[self.than]))
        return ", ".join(f"`{name}` {accuracy:.1%}" for name, accuracy in published if accuracy is not None)

    def agreement(self, found: Difference) -> str:
        """`agrees`, `disagrees` or `undecided`, by the 95 % interval of the difference."""
        if found.seeds < 2:
            return "undecided"
        if self.margin:
            return "agrees" if found.high <= self.margin else "disagrees" if found.low > self.margin else "undecided"
        return {"better": "agrees", "worse": "disagrees"}.get(found.verdict, "undecided")


SIZES = {
    "CvT": "cvt_13",
    "PVT v2": "pvt_v2_b2",
    "Swin": "swin_tiny_patch4_window7_224",
    "DeiT": "deit_small_patch16_224",
    "LV-ViT, label maps": "lvvit_s_224",
}
"""Published models of comparable sizes, whose accuracies are the claim."""
CLAIMS = (
    Claim("CvT", "DeiT"),
    Claim("PVT v2", "Swin"),
    Claim("Swin", "DeiT"),
    Claim("LV-ViT, label maps", "DeiT"),
    Claim("DeiT, soft", "DeiT", "DeiT, table 3", margin=0.005),
    Claim("DeiT, hard", "DeiT", "DeiT, table 3"),
    Claim("DeiT, hard", "DeiT, soft", "DeiT, table 3"),
    Claim("DeiT, hard, token", "DeiT, hard", "DeiT, table 3"),
    Claim("LV-ViT, label maps", "LV-ViT", "LV-ViT, section 3"),
)


class Evidence:
    """The runs of one call, in a folder."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.source = open_source(asked.data)
        self.folder = asked.work / f"{asked.train_images}x{asked.epochs}"
        self.common = {**SETTINGS, "data": asked.data, "train_images": asked.train_images, "epochs": asked.epochs}

    @property
    def teacher(self) -> str:
        """The teacher, which is trained first."""
        return f"timm:local-dir:{self.folder / 'teacher'}"

    def train_teacher(self) -> None:
        """Train a ResNet of timm with a map of 4 x 4 at 32 pixels, and write it as timm does."""
        if (self.folder / "teacher" / "config.json").is_file():
            return
        edits: dict[str, Any] = {"in_chans": 1, "channels": [32, 64, 128, 128], "output_stride": 8}
        torch.manual_seed(0)
        model = timm.create_model("resnet10t", num_classes=len(self.source.classes), **edits)
        spec = self.source.hints.suited(InputSpec((32, 32), 1, (0.5,), (0.5,), "bicubic", 1.0, "center"))
        numbers = make_split(self.source, SETTINGS["val_fraction"], 0, self.asked.train_images)["train"]
        images = Images(self.source, numbers, training_transform(spec, SETTINGS["augment"]), seed=0)
        loader = make_loader(images, batch_size=64, workers=0, training=True)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, len(loader) * self.asked.epochs)
        model.train()
        for epoch in range(self.asked.epochs):
            loader.batch_sampler.sampler.set_epoch(epoch)  # type: ignore[union-attr]
            for batch, labels in loader:
                loss = F.cross_entropy(model(batch), labels, label_smoothing=0.1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        (self.folder / "teacher").mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / "teacher" / "model.safetensors") as temporary:
            save_file(model.state_dict(), temporary)
        cfg = {"input_size": [1, 32, 32], "interpolation": "bicubic", "crop_pct": 1.0}
        cfg |= {"mean": list(spec.mean), "std": list(spec.std), "label_names": list(self.source.classes)}
        config = {"architecture": "resnet10t", "num_classes": len(self.source.classes), "model_args": edits}
        write_json(self.folder / "teacher" / "config.json", {**config, "pretrained_cfg": cfg})

    def config(self, name: str, seed: int) -> TrainConfig:
        """The settings of a run."""
        places = {"TEACHER": self.teacher, "MAPS": str(self.folder / "maps")}
        given = {
            key: places.get(value, value) if isinstance(value, str) else value for key, value in RUNS[name].items()
        }
        if "teacher" in given:
            given["teacher_cache"] = str(self.folder / "cache")  # the views of a seed are the same in three runs
        return TrainConfig.from_mapping({**self.common, **given, "seed": seed})

    def result(self, name: str, seed: int) -> dict[str, Any]:
        """Train a run or continue it, and predict the test images; or read the result that is there."""
        run = Run(self.folder / f"{name.replace(',', '').replace(' ', '-')}-{seed}")
        file = run.path / f"test-{self.asked.test_images or 'all'}.json"
        if file.is_file():
            found: dict[str, Any] = json.loads(file.read_text())
            return found
        quiet = Console(quiet=True)
        if not run.metrics.is_file():
            if "MAPS" in RUNS[name].values():
                self.make_maps()
            if run.config.is_file():
                resume(run.path, console=quiet)
            else:
                shutil.rmtree(run.path, ignore_errors=True)  # of a call that was killed before its run began
                train(self.config(name, seed), run.path, console=quiet)
        right = self.test(run.model("last"), run.input_spec())
        metrics = json.loads(run.metrics.read_text())
        found = {
            "right": np.packbits(right).tobytes().hex(),
            "images": len(right),
            **{key: metrics[key] for key in ("parameters", "seconds")},
        }
        write_json(file, found)
        return found

    def make_maps(self) -> None:
        """Label maps of 4 x 4 positions, from the teacher at its own size: at 64 pixels it is right half as often."""
        fewer = {"train_images": self.asked.train_images, "val_fraction": SETTINGS["val_fraction"]}
        make_label_maps(self.teacher, self.asked.data, self.folder / "maps", size=32, device="cpu", **fewer)

    @torch.inference_mode()
    def test(self, model: torch.nn.Module, spec: InputSpec) -> NDArray[np.bool_]:
        """Of each test image whether it is predicted right."""
        right, numbers = [], self.source.parts["test"]
        if self.asked.test_images:
            numbers = sorted(numbers, key=lambda n: hashlib.sha256(f"{n}".encode()).digest())[: self.asked.test_images]
        for some, pixels in read_batches(self.source, numbers, spec.pixels(), batch_size=250):
            found = model(spec.normalise(pixels)).argmax(1)
            right.append(found == torch.tensor([self.source.labels[number] for number in some]))
        return torch.cat(right).numpy()


def hits(results: Mapping[int, Mapping[str, Any]], seeds: list[int]) -> NDArray[np.bool_]:
    """Of each test image whether it was predicted right, (S, N)."""
    rows = [np.frombuffer(bytes.fromhex(results[seed]["right"]), np.uint8) for seed in seeds]
    return np.stack(
        [np.unpackbits(row, count=results[seed]["images"]).astype(bool) for row, seed in zip(rows, seeds, strict=True)]
    )


PAGE = """# Results

<!-- Generated by benchmarks/evidence.py; do not edit. -->

The small models of five families (`*_nano`: with all mechanisms, below a million parameters), trained from scratch on
{train_images:,} of Fashion-MNIST's training images and tested on {test_images} test images. All runs have one set of
settings: epochs {epochs}, AdamW at a rate of {lr:g}, batches of {batch_size}, {img_size} pixels, augmentation
`{augment}`, label smoothing {label_smoothing:g}, no other regularisation. The weights are those of the last epoch. On
Debian:

```bash
apt-get install dataset-fashion-mnist
python benchmarks/evidence.py --out docs/results.md
```

An interrupted call continues where it stopped, within an epoch too. Accuracy is the mean over the seeds with the sample
standard deviation; minutes are those of training with {threads} on {processor}. Small images, few
epochs and models below a million parameters are not ImageNet: a disagreement shows that a claim does not carry over to
this setting, not that it is wrong. [Results on digits](digits.md) has the small model of every family.

{accuracies}

The teacher of the distilled runs and of the label maps is a ResNet-10-t of timm with narrow stages; its accuracy is
{teacher}. Soft distillation has alpha 0.1 and tau 3, hard distillation alpha 0.5, as in the paper. *Token* is the
distillation token with its own head; the others have one head. LV-ViT uses MixToken in both runs; label maps have 4 x 4
positions.

## Beside the papers

The difference, in points, is paired by seed and test image; the interval is a hierarchical bootstrap over seeds and
images (`hexavit.studies.statistics`). A claim *agrees* or *disagrees* if the interval lies on one side of 0 (for "is
not better": of 0.5 points), and else is undecided. Published accuracies are those of the catalogue, on ImageNet-1k.

{claims}
"""


def page(evidence: Evidence, results: Mapping[str, Mapping[int, Mapping[str, Any]]], teacher: float | None) -> str:
    """The page with the results that are there."""
    asked = evidence.asked
    lines = ["| run | model | parameters | accuracy | seeds | minutes a run |", "|---|---|---|---|---|---|"]
    for name, settings in RUNS.items():
        if not (found := results.get(name)):
            lines.append(f"| {name} | `{settings['model']}` | | not measured | 0 | |")
            continue
        accuracy = hits(found, sorted(found)).mean(axis=1) * 100
        spread = f" ± {accuracy.std(ddof=1):.2f}" if len(accuracy) > 1 else ""
        first = next(iter(found.values()))
        minutes = sum(each["seconds"] for each in found.values()) / len(found) / 60
        cells = (name, f"`{settings['model']}`", f"{first['parameters']:,}", f"{accuracy.mean():.2f} %{spread}")
        lines.append("| " + " | ".join((*cells, str(len(found)), f"{minutes:.1f}")) + " |")
    claims = ["| claim | source | difference | 95 % interval | here |", "|---|---|---|---|---|"]
    for claim in CLAIMS:
        shared = sorted(set(results.get(claim.better, {})) & set(results.get(claim.than, {})))
        cells = ["", "", "not measured"]
        if shared:
            difference = paired(hits(results[claim.better], shared), hits(results[claim.than], shared))
            interval = f"{difference.low * 100:+.2f} to {difference.high * 100:+.2f}"
            cells = [f"{difference.mean * 100:+.2f}", interval, claim.agreement(difference)]
        claims.append("| " + " | ".join((claim.in_words(), claim.where(), *cells)) + " |")
    return PAGE.format(
        **SETTINGS,
        train_images=asked.train_images,
        test_images=f"{asked.test_images:,}" if asked.test_images else "all 10,000",
        epochs=asked.epochs,
        threads=f"{asked.threads} thread{'s' * (asked.threads > 1)}",
        processor=processor(),
        accuracies="\n".join(lines),
        teacher="not measured" if teacher is None else f"{teacher:.2%}",
        claims="\n".join(claims),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=DATA, help="a published data set with a test part")
    parser.add_argument("--work", type=Path, default=Path("runs/evidence"), help="folder of the runs")
    parser.add_argument("--train-images", type=int, default=10_000)
    parser.add_argument("--test-images", type=int, help="by default all")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=RUNS, help="train these alone")
    parser.add_argument("--out", type=Path, help="the page to write")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    evidence = Evidence(asked)
    results: dict[str, dict[int, dict[str, Any]]] = {}
    accuracy: float | None = None
    for seed in range(asked.seeds):
        for name in RUNS if asked.only is None else asked.only:
            if accuracy is None and {"TEACHER", "MAPS"} & {v for v in RUNS[name].values() if isinstance(v, str)}:
                evidence.train_teacher()
                loaded = load_any_model(evidence.teacher)
                accuracy = float(evidence.test(loaded.model, loaded.input_spec).mean())
                print(f"teacher: {accuracy:.2%}", flush=True)
            start = time.perf_counter()
            results.setdefault(name, {})[seed] = found = evidence.result(name, seed)
            right = hits({seed: found}, [seed]).mean()
            print(f"{name}, seed {seed}: {right:.2%} ({time.perf_counter() - start:.0f} s)", flush=True)
            if asked.out:
                with replacing(asked.out) as temporary:
                    temporary.write_text(page(evidence, results, accuracy), encoding="utf-8")
    if not asked.out:
        print(page(evidence, results, accuracy))


if __name__ == "__main__":
    main()
