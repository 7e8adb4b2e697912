"""Compare the peak memory of pyramids at 1024 x 1024 with timm's, and the fraction of time spent in copies.

    python benchmarks/pyramids.py [--models NAME ...] [--size N]

float32, batch 1, eager inference, random weights. Peak memory excludes weights and input; each model runs in a
separate process. The fraction of copies is that of `aten::copy_` in a profile of one pass at 224, batch 2, one thread.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import torch
from measure import in_own_process, peak_bytes, processor
from peers import TIMM
from torch import nn
from torch.profiler import ProfilerActivity, profile

PYRAMIDS = tuple(name for name in TIMM if not name.startswith(("vit", "deit", "cait")))
LIBRARIES = ("hexavit", "optimized", "timm")


def build(library: str, name: str, size: int) -> nn.Module:
    """A model with random weights in evaluation mode."""
    torch.manual_seed(0)
    if library != "timm":
        import hexavit

        plain = hexavit.create_model(name, img_size=size).eval()
        return hexavit.optimize(plain, batch_size=1) if library == "optimized" else plain
    import timm

    sized = {} if name.startswith("pvt") else {"img_size": size}  # timm's PVT v2 has no size
    model: nn.Module = timm.create_model(name, **sized).eval()
    return model


def inference(model: nn.Module, batch: int, size: int) -> Callable[[], object]:
    """A forward pass of random images."""
    images = torch.randn(batch, 3, size, size)

    def run() -> object:
        with torch.inference_mode():
            return model(images)

    return run


def copies(library: str, name: str) -> float:
    """The fraction of the time of one pass that is spent in copies."""
    run = inference(build(library, name, 224), 2, 224)
    run()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        run()
    spent = {event.key: event.self_cpu_time_total for event in seen.key_averages()}
    return float(spent.get("aten::copy_", 0) / sum(spent.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=PYRAMIDS)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument(
        "--one", nargs=2, metavar=("LIBRARY", "MODEL"), help="internal: measure one model in this process"
    )
    asked = parser.parse_args()
    if asked.one:
        torch.set_num_threads(1)
        share = copies(*asked.one)
        torch.set_num_threads(2)
        print(
            json.dumps({"peak": peak_bytes(inference(build(*asked.one, asked.size), 1, asked.size)), "copies": share})
        )
        return
    print(processor())
    for name in asked.models:
        results = {each: in_own_process(__file__, "--one", each, name, "--size", str(asked.size)) for each in LIBRARIES}
        for library in LIBRARIES:
            peak, share = results[library]["peak"] / 2**20, results[library]["copies"]
            part = results[library]["peak"] / results["timm"]["peak"]
            print(f"{name:22} {library:9} peak {peak:8.1f} MiB ({part:.3f} of timm's)  copies {share:6.1%}", flush=True)


if __name__ == "__main__":
    main()
