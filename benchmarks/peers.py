"""Every system that timm has too, side by side in one run: float32, 2 threads, batch 8, eager inference, at 224 or
the size that a name ends in.

    python benchmarks/peers.py [--rounds N] [--models NAME ...] [--json]

Prints images per second of hexavit and of timm and the ratio of the two (the median over interleaved rounds, above 1
where hexavit is faster), and the geometric mean of the ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable

import torch
from measure import interleaved, speedup

MODELS = (
    "vit_tiny_patch16_224",
    "deit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "cait_xxs24_224",
    "pvt_v2_b0",
    "pvt_v2_b2",
    "pvt_v2_b2_li",
    "twins_pcpvt_small",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "twins_svt_small",
)
BATCH = 8


def inference(library: str, name: str) -> Callable[[], object]:
    """One batch through a model with random weights."""
    torch.manual_seed(0)
    if library == "hexavit":
        import hexavit

        model = hexavit.create_model(name).eval()
    else:
        import timm

        model = timm.create_model(name).eval()
    size = 256 if name.endswith("_256") else 224
    images = torch.randn(BATCH, 3, size, size)

    def run() -> object:
        with torch.inference_mode():
            return model(images)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--json", action="store_true", help="print JSON, images per second")
    asked = parser.parse_args()
    torch.set_num_threads(2)
    ratios, told = [], {}
    for name in asked.models:
        seconds = interleaved({lib: inference(lib, name) for lib in ("hexavit", "timm")}, asked.rounds)
        rates = {library: BATCH / statistics.median(times) for library, times in seconds.items()}
        ratios.append(speedup(seconds, "hexavit", "timm"))
        told[name] = {**rates, "ratio": ratios[-1]}
        if not asked.json:
            print(
                f"{name:34} hexavit {rates['hexavit']:7.2f}   timm {rates['timm']:7.2f} images/s   {ratios[-1]:.3f}",
                flush=True,
            )
    mean = statistics.geometric_mean(ratios)
    if asked.json:
        print(json.dumps({"models": told, "geometric_mean": mean, "threads": 2, "batch": BATCH}, indent=2))
    else:
        print(f"geometric mean of {len(ratios)} ratios: {mean:.3f}")


if __name__ == "__main__":
    main()
