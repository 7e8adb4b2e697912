"""Every small member (`*_nano`) trained from scratch on scikit-learn's handwritten digits, as a table.

    python benchmarks/digits.py [--models NAME ...] [--seed N] [--threads N] [--out docs/results.md] [--json]

A model takes about a minute on two cores. Accuracy is that of the best epoch on the 359 digits held out; seconds are
those of the training, and hold for the machine alone. With `--out` the rows are written into that page; models that are
not asked for keep theirs.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import hexavit
from hexavit.training import TrainConfig, train

# What each small member is trained with; a new one needs no line here when the first does.
SETTINGS: dict[str, Any] = {"data": "digits", "epochs": 20, "lr": 2e-3, "batch_size": 64, "workers": 0, "device": "cpu"}
OTHERS: dict[str, dict[str, Any]] = {
    "cait_nano": {"epochs": 25, "lr": 3e-3},  # its branches start small
    "deit_nano": {"epochs": 30, "lr": 1e-3},
    "t2t_vit_nano": {"img_size": (64, 64)},  # 4 x 4 tokens of 16 pixels
}

PAGE = """# Results

<!-- Written by benchmarks/digits.py; edit what it reads. -->

Every small member of a family (`*_nano`: all mechanisms on, below a million parameters), trained from scratch on
scikit-learn's 1438 handwritten digits: AdamW at a rate of {lr:g}, {epochs} epochs, batches of {batch_size}. Otherwise:
{others}.

`python benchmarks/digits.py --out docs/results.md` writes this page. Accuracy is that of the best epoch on the 359
digits held out, seed {seed}; one digit is 0.3 %. Parameters and multiply-adds are of the model as trained: one grey
image, ten classes. Seconds are of the training on the machine that wrote the row, {threads}; other programs may have
run beside it. A slow test holds every row to 95 %.

| model | pixels | parameters | multiply-adds | accuracy | seconds |
|---|---|---|---|---|---|
{rows}
"""


def settings(name: str, **more: Any) -> dict[str, Any]:
    """The settings of a small member's training."""
    return {"model": name, **SETTINGS, **OTHERS.get(name, {}), **more}


def result(name: str, seed: int = 0) -> dict[str, Any]:
    """Train one and measure it."""
    asked = settings(name, seed=seed)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        quiet = Console(file=io.StringIO())
        accuracy = train(TrainConfig.from_mapping(asked), Path(folder) / "run", console=quiet).metrics["accuracy"]
    side = asked.get("img_size", (32, 32))
    model = hexavit.create_model(name, num_classes=10, in_chans=1, img_size=side)
    counted = hexavit.profile(model)
    return {
        "model": name,
        "pixels": side[0],
        "parameters": counted.parameters,
        "macs": counted.macs,
        "accuracy": accuracy,
        "seconds": time.perf_counter() - start,
    }


def row(found: dict[str, Any]) -> str:
    """A result as a line of the table."""
    counts = f"{found['parameters']:,} | {found['macs'] / 1e6:.1f} M"
    return f"| `{found['model']}` | {found['pixels']} | {counts} | {found['accuracy']:.1%} | {found['seconds']:.0f} |"


def page(rows: dict[str, str], seed: int, threads: int) -> str:
    """The page with these rows, in the order of the registry."""
    others = "; ".join(
        f"`{name}` with {', '.join(f'{key}={value}' for key, value in given.items())}" for name, given in OTHERS.items()
    )
    ordered = [rows[name] for name in hexavit.list_models("*_nano") if name in rows]
    with_threads = f"{threads} thread{'s' * (threads > 1)}"
    return PAGE.format(**SETTINGS, others=others, rows="\n".join(ordered), seed=seed, threads=with_threads)


def rows_of(path: Path) -> dict[str, str]:
    """The rows that a page has, by model."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return {match[1]: match[0] for match in re.finditer(r"^\| `(\w+)` \|.*$", text, re.MULTILINE)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", help="these alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="the page to write the rows into")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    found = []
    for name in asked.models or hexavit.list_models("*_nano"):
        found.append(result(name, asked.seed))
        if not asked.json:
            print(row(found[-1]), flush=True)
        if asked.out:
            rows = {**rows_of(asked.out), name: row(found[-1])}
            asked.out.write_text(page(rows, asked.seed, asked.threads), encoding="utf-8")
    if asked.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
