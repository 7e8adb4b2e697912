"""Compare CvT-13 with transformers' CvT: float32, 2 threads, random weights, one run.

    python benchmarks/cvt.py [--rounds N]

Prints images per second of both, their ratio (median over interleaved rounds) and the peak memory beyond weights and
input, each model in a separate process. The cases are inference at 224, batch 8; inference at 768 x 768, batch 1; and a
training step at 224, batch 8 (AdamW).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import torch
from measure import in_own_process, interleaved, peak_bytes, speedup

CASES = {"inference": (8, 224), "large": (1, 768), "training": (8, 224)}
NAMES = ("hexavit", "transformers")


def build(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """A CvT-13 that maps images to logits."""
    torch.manual_seed(0)
    if name == "hexavit":
        import hexavit

        return hexavit.create_model("cvt_13")
    from transformers import CvtConfig, CvtForImageClassification

    model = CvtForImageClassification(CvtConfig(num_labels=1000))

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model(x).logits

    return Logits()


def job(name: str, case: str) -> Callable[[], object]:
    """One inference or one training step, ready to run."""
    batch, size = CASES[case]
    model, images = build(name), torch.randn(batch, 3, size, size)
    if case != "training":
        model.eval()

        def infer() -> object:
            with torch.inference_mode():
                return model(images)

        return infer
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    labels = torch.arange(batch)

    def step() -> object:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(
        "--memory", nargs=2, metavar=("NAME", "CASE"), help="internal: measure one model in this process"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    if arguments.memory:
        name, case = arguments.memory
        run = job(name, case)
        if case == "training":
            run()  # the optimizer's state and the gradients are held from the first step on
        print(json.dumps({"peak": peak_bytes(run)}))
        return
    for case, (batch, size) in CASES.items():
        seconds = interleaved({name: job(name, case) for name in NAMES}, arguments.rounds if size < 500 else 3)
        peaks = {name: in_own_process(__file__, "--memory", name, case)["peak"] for name in NAMES}
        print(f"{case}: batch {batch} at {size} x {size}")
        for name in NAMES:
            median = sorted(seconds[name])[len(seconds[name]) // 2]
            print(f"  {name:13} {batch / median:7.2f} images/s   peak memory {peaks[name] / 2**20:8.1f} MiB")
        print(f"  {speedup(seconds, *NAMES):.2f} times as fast, {peaks[NAMES[0]] / peaks[NAMES[1]]:.3f} of the memory")


if __name__ == "__main__":
    main()
