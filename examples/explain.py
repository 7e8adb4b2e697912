"""See what a small model looks at: train it on scenes with a digit, and write its maps as one page.

    pip install 'hexavit[explain]'
    python examples/explain.py seen

Each step stands alone, as the cells of a notebook do. Two minutes on a laptop. See docs/explain.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

import hexavit
from hexavit.explain import analyses, figures
from hexavit.images.preprocess import InputSpec

SIDE, DIGIT = 64, 24


# 1. Scenes: noise with one digit at a random place; its class is the digit's.
def scenes(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    data, random = load_digits(n_class=4), np.random.default_rng(seed)
    images = random.normal(0.25, 0.1, (count, 1, SIDE, SIDE)).astype(np.float32)
    chosen = random.integers(0, len(data.target), count)
    for image, number in zip(images, chosen, strict=True):
        y, x = random.integers(0, SIDE - DIGIT + 1, 2)
        image[0, y : y + DIGIT, x : x + DIGIT] = np.kron(data.images[number] / 16, np.ones((3, 3)))
    return torch.from_numpy(images.clip(0, 1) * 2 - 1), torch.from_numpy(data.target[chosen])


def main(out: Path, steps: int = 150) -> None:
    # 2. A model, trained for a minute.
    torch.manual_seed(0)
    model = hexavit.create_model("cvt_nano", num_classes=4, in_chans=1, img_size=SIDE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(steps):
        images, labels = scenes(32, seed=step)
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()

    # 3. Attention as arrays: of the class token in the last stage, on the pixel grid.
    images, labels = scenes(4, seed=10_000)
    (found,) = hexavit.explain.attention_maps(model, images[0], stage=-1, block=-1, query="class")
    print(
        f"{found.path}: cells {found.cells.shape}, pixels {found.pixels().shape}, class token {found.extra[0, 0]:.2f}"
    )

    # 4. A page of maps: attention of each stage, rollout, Grad-CAM. It loads nothing from outside.
    spec = InputSpec((SIDE, SIDE), 1, (0.5,), (0.5,), "bilinear", 1.0, "center")
    methods = ("attention", "rollout", "gradient_rollout", "gradcam")
    explained = [
        hexavit.explain.explain_image(model, image, spec, name=f"scene {i}, a {label}", methods=methods)
        for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True))
    ]
    out.mkdir(parents=True, exist_ok=True)
    (out / "index.html").write_text(hexavit.explain.page("Digits in scenes", explained), encoding="utf-8")

    # 5. Is a map faithful? Deleting what counts most should hurt soon, inserting it should help soon.
    cam = hexavit.explain.attribute(model, images[0], "gradcam")
    deletion, insertion = hexavit.explain.deletion_insertion(model, images[0], cam)
    print(f"area under deletion {deletion.area:.2f}, under insertion {insertion.area:.2f}")

    # 6. How far the heads look, by depth.
    figures.draw_distances(analyses.attention_distance(model, images[0])).savefig(out / "distances.png")
    print(f"{out / 'index.html'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "seen"))
