"""Compare a training step of hexavit's models with timm's and transformers' models under one loop.

    python benchmarks/training.py [--rounds N] [--batch N] [--models NAME ...] [--against timm|transformers] [--json]

A step is the forward pass, cross-entropy with label smoothing, the backward pass, clipping of the gradient and AdamW,
in float32 with 2 threads, at the model's image size, with random weights and without drop path. Prints the processor
and, for each model, seconds and images per second of a step, the ratio to the other library's (median over interleaved
rounds; above 1 means that hexavit is faster), and the memory that two steps add to a process with the model; then the
lowest ratio of speed and the largest of memory. Goals: CvT-13 at least 1.2 times as fast as transformers', no model
slower than the other library's, none with more memory. The exit status is 1 if one is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from measure import in_own_process, interleaved, peak_bytes, processor, speedup
from peers import BUILDERS, PEERS
from torch import nn

import hexavit
from hexavit.models import model_entry

BATCH = 8
GOALS = {"cvt_13": 1.2}
"""Smallest ratio of speed of a model; 1.0 for the others."""


def build(library: str, name: str) -> nn.Module:
    """A model in training mode without drop path, whose default differs between libraries."""
    torch.manual_seed(0)
    if library == "hexavit":
        return hexavit.create_model(name.partition(":")[0], drop_path_rate=0.0).train()
    model = BUILDERS[library](name).train()
    for module in model.modules():
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    return model


def step(model: nn.Module, name: str, batch: int) -> Callable[[], object]:
    """One training step of a model, to be repeated."""
    size = model_entry(name.partition(":")[0]).architecture.img_size
    images, labels = torch.randn(batch, 3, *size), torch.randint(1000, (batch,))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05)

    def run() -> None:
        optimizer.zero_grad()
        output: Any = model(images)
        output = getattr(output, "logits", output)
        outputs = output if isinstance(output, tuple) else (output,)  # a distilled model gives two in training
        loss = torch.stack([F.cross_entropy(each, labels, label_smoothing=0.1) for each in outputs]).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return run


def one(name: str, library: str, rounds: int, batch: int) -> dict[str, float]:
    """Seconds of a step of both models, and the ratio."""
    runs = {each: step(build(each, name), name, batch) for each in ("hexavit", library)}
    seconds = interleaved(runs, rounds)
    return {
        "seconds": statistics.median(seconds["hexavit"]),
        "theirs": statistics.median(seconds[library]),
        "ratio": speedup(seconds, "hexavit", library),
    }


def peak(name: str, library: str, batch: int) -> dict[str, float]:
    """Bytes that two steps add to a process with the model: activations, gradients, optimizer state."""
    run = step(build(library, name), name, batch)

    def twice() -> None:
        run()
        run()

    return {"peak": peak_bytes(twice)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--models", nargs="+")
    parser.add_argument("--against", choices=tuple(PEERS))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=3, metavar=("WHAT", "MODEL", "LIBRARY"), help="internal: measure here")
    asked = parser.parse_args()
    torch.set_num_threads(2)
    if asked.one:
        what, name, library = asked.one
        if what == "time":
            print(json.dumps(one(name, library, asked.rounds, asked.batch)))
        else:
            print(json.dumps(peak(name, library, asked.batch)))
        return 0
    if not asked.json:
        print(processor())
    options = ("--rounds", str(asked.rounds), "--batch", str(asked.batch))
    rows: list[dict[str, Any]] = []
    for library in (asked.against,) if asked.against else PEERS:
        for name in PEERS[library]:
            if asked.models and name not in asked.models:
                continue
            row: dict[str, Any] = {"model": name, "library": library, "batch": asked.batch}
            row |= in_own_process(__file__, "--one", "time", name, library, *options)
            for column, each in (("peak", "hexavit"), ("peak_theirs", library)):
                row[column] = in_own_process(__file__, "--one", "memory", name, each, *options)["peak"]
            row |= {"images_per_second": asked.batch / row["seconds"], "memory": row["peak"] / row["peak_theirs"]}
            row["goal"] = row["ratio"] >= GOALS.get(name, 1.0) and row["memory"] <= 1.0
            rows.append(row)
            if not asked.json:
                print(
                    f"{name:32} {library:13} {row['seconds']:7.3f} s {row['images_per_second']:7.1f} images/s "
                    f"{row['ratio']:6.2f} times  {row['peak'] / 2**20:7.0f} MiB {row['memory']:5.2f} of theirs"
                    f"{'' if row['goal'] else '  below the goal'}",
                    flush=True,
                )
    if asked.json:
        print(json.dumps(rows, indent=2))
    elif rows:
        worst, largest = min(row["ratio"] for row in rows), max(row["memory"] for row in rows)
        print(f"lowest ratio {worst:.2f}, largest memory {largest:.2f} of theirs")
    return int(not all(row["goal"] for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
