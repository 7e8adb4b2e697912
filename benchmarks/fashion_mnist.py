"""Train on Fashion-MNIST with settings that `hexavit train` chooses, and evaluate on all 10,000 test images.

    sudo apt-get install dataset-fashion-mnist
    python benchmarks/fashion_mnist.py [--images N] [--source FOLDER] [--out FOLDER] [OPTION ...]

5,000 of the 60,000 training images validate; of the others, `--images N` takes N, and a quarter as many validate, at
most 5,000. OPTIONs of `hexavit train` override what is chosen. An interrupted run is continued, and a finished one is
only evaluated. The time is that of the training steps.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from measure import processor

from hexavit.cli import main as hexavit
from hexavit.training import evaluate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="/usr/share/datasets/fashion-mnist", help="folder of Fashion-MNIST")
    parser.add_argument("--images", type=int, help="number of training images; by default all but the validation ones")
    parser.add_argument("--out", type=Path, default=Path("runs/fashion-mnist"), help="the run folder")
    asked, options = parser.parse_known_args()
    data, run = f"fashion_mnist:{asked.source}", asked.out
    if asked.images is not None:
        options += ["--train-images", str(asked.images)]
    if not (run / "metrics.json").exists():
        again = ["--resume"] if (run / "config.yaml").exists() else [data, *options]
        if status := hexavit(["train", "--out", str(run), *again]):
            raise SystemExit(status)
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    found = evaluate(run, data, part="test")
    low, high = found.interval
    print(
        f"{found.model}: {found.accuracy:.2%} of {found.count} test images (95 % interval {low:.2%} to {high:.2%}), "
        f"{metrics['train_images']} training images, {metrics['epochs']} epochs, {metrics['seconds']:.0f} s\n"
        f"{processor()}"
    )


if __name__ == "__main__":
    main()
