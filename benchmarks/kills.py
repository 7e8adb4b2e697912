"""Kill runs at random points, resume them, and count the lost steps: `python benchmarks/kills.py --points 50`.

A small CvT is trained on thirty digits for two epochs of three steps, with one data worker, Mixup, drop path and a
moving average of the weights. A point is before or after a gradient, an update of the weights, a validation batch, a
link or a rename of a file, or during the writing of a file. Every other run writes a checkpoint after each step, the
others at the end of an epoch only.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.killing import kill, whole
from tests.training.loop.test_kills import settings

EVERY = {0.0: "step", 1e9: "epoch"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    drawn = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        moments = {every: whole(settings(every), Path(folder, name)) for every, name in EVERY.items()}
        print("| killed | checkpoints every | steps taken | resumed after step | steps lost | bit-identical |")
        print("|---|---|---|---|---|---|")
        identical = lost = 0
        for number in range(asked.points):
            every = list(EVERY)[number % len(EVERY)]
            moment = drawn.randint(1, len(moments[every]))
            done = kill(settings(every), Path(folder, f"run{number}"), Path(folder, EVERY[every]), moment)
            identical, lost = identical + done.identical, lost + done.lost
            same = "yes" if done.identical else "NO"
            cells = (f"{moment}: {done.moment}", EVERY[every], done.reached, done.resumed, done.lost, same)
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)
        print(f"\n{identical} of {asked.points} ended bit-identical to the uninterrupted run; {lost} steps taken twice")
    sys.exit(identical < asked.points)


if __name__ == "__main__":
    main()
