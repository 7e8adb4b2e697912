"""Measure how much of a map is inside the object that a class depends on, by method and family.

    python benchmarks/explain.py [--steps N] [--scenes N] [--write docs/explain.md] [--pictures docs/images]

Scenes are 64 x 64 grey images of noise and bars with one handwritten digit of 24 x 24 pixels (scikit-learn's) at a
random place; the class is the digit, so the evidence is known. A small model of each family is trained on them, from
digits that no test scene has. The table has the share of each map's positive part inside the digit's square, in the
mean over correctly classified test scenes; an even map has 14 %. Each family takes one to two
minutes of one core.
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

import hexavit
from hexavit.explain import METHODS, attribute, deletion_insertion, explain_image
from hexavit.images.preprocess import InputSpec

SIDE, DIGIT = 64, 24
CLASSES = ("zero", "one", "four", "seven")
NUMBERS = (0, 1, 4, 7)
FAMILIES = {
    "ViT": ("deit_nano", ("head=class_token",)),
    "CvT": ("cvt_nano", ()),
    "PVT v2": ("pvt_v2_nano", ()),
    "Swin": ("swin_nano", ()),
    "MViTv2": ("mvit_v2_nano", ()),
}
MEASURED = ("ViT", "CvT", "PVT v2", "Swin")
"""The families of the page's table."""
SHOWN = (
    "attention",
    "rollout",
    "gradient_rollout",
    "gradcam",
    "hirescam",
    "layercam",
    "integrated_gradients",
    "occlusion",
)
SPEC = InputSpec((SIDE, SIDE), 1, (0.5,), (0.5,), "bilinear", 1.0, "center")


class Scenes:
    """Scenes of the digits of one part, the same for a seed."""

    def __init__(self, test: bool, seed: int) -> None:
        data = load_digits()
        chosen = [i for i, n in enumerate(data.target) if n in NUMBERS]
        chosen = [i for k, i in enumerate(chosen) if (k % 5 == 0) == test]
        self.digits = torch.from_numpy(data.images[chosen]).float() / 16
        self.labels = torch.tensor([NUMBERS.index(data.target[i]) for i in chosen])
        self.random = np.random.default_rng(seed)

    def batch(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, 1, H, W) from -1 to 1, classes, and the upper left corner of each digit (B, 2)."""
        numbers = torch.from_numpy(self.random.integers(0, len(self.labels), count))
        images = torch.from_numpy(self.random.normal(0.25, 0.1, (count, 1, SIDE, SIDE)).astype(np.float32))
        corners = torch.from_numpy(self.random.integers(0, SIDE - DIGIT + 1, (count, 2)))
        large = F.interpolate(self.digits[numbers][:, None], (DIGIT, DIGIT), mode="bilinear")
        for i in range(count):
            for _ in range(4):  # bars of the brightness of a digit
                y, x = self.random.integers(0, SIDE - 12, 2)
                h, w = (3, 12) if self.random.random() < 0.5 else (12, 3)
                images[i, 0, y : y + h, x : x + w] = 0.8
            y, x = corners[i].tolist()
            images[i, 0, y : y + DIGIT, x : x + DIGIT] = 0.15 + 0.85 * large[i, 0]
        return images.clamp(0, 1) * 2 - 1, self.labels[numbers], corners


def trained(name: str, overrides: tuple[str, ...], steps: int) -> hexavit.Backbone:
    """A model after some steps of AdamW."""
    torch.manual_seed(0)
    options = {"num_classes": len(CLASSES), "in_chans": 1, "img_size": SIDE, "overrides": overrides}
    model = hexavit.create_model(name, **options)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    scenes = Scenes(test=False, seed=0)
    for _ in range(steps):
        images, labels, _ = scenes.batch(48)
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def measured(model: hexavit.Backbone, count: int) -> tuple[float, dict[str, float], dict[str, float]]:
    """Accuracy on scenes, and by method the share inside the digit and the area under insertion minus deletion."""
    images, labels, corners = Scenes(test=True, seed=1).batch(200)
    with torch.no_grad():
        right = model(images).argmax(dim=1) == labels
    shares: dict[str, list[float]] = {method: [] for method in SHOWN}
    areas: dict[str, list[float]] = {method: [] for method in SHOWN}
    for i in right.nonzero()[:count, 0].tolist():
        y, x = corners[i].tolist()
        for method in SHOWN:
            found = attribute(model, images[i], method, target=int(labels[i]))
            values = np.clip(found.pixels(smooth=False), 0, None)
            shares[method].append(values[y : y + DIGIT, x : x + DIGIT].sum() / max(values.sum(), 1e-12))
            deletion, insertion = deletion_insertion(model, images[i], found, target=int(labels[i]), steps=8)
            areas[method].append(insertion.area - deletion.area)
    means = [{method: float(np.mean(each)) for method, each in found.items()} for found in (shares, areas)]
    return float(right.float().mean()), means[0], means[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=250, help="training steps of each model")
    parser.add_argument("--scenes", type=int, default=12, help="scenes that are explained")
    parser.add_argument("--families", nargs="+", default=list(MEASURED), choices=list(FAMILIES), help="of the table")
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of maps")
    asked = parser.parse_args()
    assert set(SHOWN) <= set(METHODS)
    rows = ["| family | accuracy | " + " | ".join(f"`{method}`" for method in SHOWN) + " |"]
    rows.append("|---" * (len(SHOWN) + 2) + "|")
    for family in asked.families:
        start = time.process_time()
        model = trained(*FAMILIES[family], asked.steps)
        accuracy, shares, areas = measured(model, asked.scenes)
        values = " | ".join(f"{shares[method]:.0%} ({areas[method]:+.2f})" for method in SHOWN)
        rows.append(f"| {family} (`{FAMILIES[family][0]}`) | {accuracy:.0%} | {values} |")
        print(f"{rows[-1]}  {time.process_time() - start:.0f} s", flush=True)
        if asked.pictures is not None:
            draw(model, asked.pictures / f"explain-{FAMILIES[family][0]}.png")
    if asked.write is not None:
        page = asked.write.read_text(encoding="utf-8")
        table = "\n".join(["<!-- explain: table -->", *rows, "<!-- explain: end -->"])
        page = re.sub(r"<!-- explain: table -->.*?<!-- explain: end -->", lambda _: table, page, flags=re.DOTALL)
        asked.write.write_text(page, encoding="utf-8")


def draw(model: hexavit.Backbone, path: Path) -> None:
    """The maps of one scene: attention of each stage, then methods of the class."""
    images, labels, _ = Scenes(test=True, seed=2).batch(8)
    with torch.no_grad():
        sure = model(images).softmax(dim=1)[torch.arange(8), labels]
    methods = ("attention", "rollout", "gradient_rollout", "gradcam", "occlusion")
    found = explain_image(model, images[int(sure.argmax())], SPEC, methods=methods, classes=CLASSES)
    found.picture.quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    main()
