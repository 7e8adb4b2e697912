"""Every system that timm or transformers has too, side by side in one run: float32, 2 threads, batch 8, inference.

    python benchmarks/peers.py [--rounds N] [--models NAME ...] [--against timm|transformers] [--json]

Each model at the size that it is built for, with random weights. Prints images per second of hexavit and of the other
library and the ratio of the two (the median over interleaved rounds, above 1 where hexavit is faster), the lowest ratio
and the geometric mean. Every pair runs in a process of its own: memory that models before it have left there is faster
than fresh memory, and would favour whoever asks for more of it.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable

import torch
from measure import in_own_process, interleaved, speedup
from torch import nn

# One size of every system that another library has, by that library. timm's model has the same name, or the one behind
# the colon; transformers' is built from the configuration that hexavit writes for it.
TIMM = (
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
TRANSFORMERS = (
    "vit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "cvt_13",
    "pvt_tiny",
    "pvt_v2_b0",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
)
PEERS = {"timm": TIMM, "transformers": TRANSFORMERS}
BATCH = 8


def ours(name: str) -> nn.Module:
    """hexavit's model."""
    import hexavit

    return hexavit.create_model(name)


def from_timm(name: str) -> nn.Module:
    """timm's model, under hexavit's name for it."""
    import timm

    return timm.create_model(name.rpartition(":")[2])


def from_transformers(name: str) -> nn.Module:
    """transformers' model of the configuration that hexavit writes beside weights in its layout."""
    import transformers

    from hexavit.models import LAYOUTS, model_entry

    entry = model_entry(name)
    layout = next(each for each in LAYOUTS if each.config and each.family == entry.family)
    assert layout.config is not None
    config = layout.config(entry.architecture)
    (kind,) = config.pop("architectures")
    return getattr(transformers, kind)(transformers.AutoConfig.for_model(config.pop("model_type"), **config))


BUILDERS: dict[str, Callable[[str], nn.Module]] = {"timm": from_timm, "transformers": from_transformers}


def inference(model: nn.Module, size: tuple[int, int]) -> Callable[[], object]:
    """One batch through a model."""
    model.eval()
    images = torch.randn(BATCH, 3, *size)

    def run() -> object:
        with torch.inference_mode():
            return model(images)

    return run


def side_by_side(name: str, library: str, rounds: int) -> dict[str, float]:
    """Images per second of both, and the ratio."""
    torch.manual_seed(0)
    model = ours(name.partition(":")[0])
    size = model.architecture.img_size
    runs = {"hexavit": inference(model, size), library: inference(BUILDERS[library](name), size)}
    seconds = interleaved(runs, rounds)
    rates = {each: BATCH / statistics.median(times) for each, times in seconds.items()}
    return {**rates, "ratio": speedup(seconds, "hexavit", library)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--models", nargs="+", help="these alone")
    parser.add_argument("--against", choices=PEERS, help="one library alone")
    parser.add_argument("--json", action="store_true", help="print JSON, images per second")
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "LIBRARY"), help="used by itself, in a process of its own")
    asked = parser.parse_args()
    if asked.one:
        torch.set_num_threads(2)
        print(json.dumps(side_by_side(*asked.one, asked.rounds)))
        return
    told = {}
    for library in [asked.against] if asked.against else PEERS:
        for name in asked.models or PEERS[library]:
            told[f"{name} {library}"] = found = in_own_process(
                __file__, "--one", name, library, "--rounds", str(asked.rounds)
            )
            if not asked.json:
                rates = f"hexavit {found['hexavit']:7.2f}   {library:<12} {found[library]:7.2f} images/s"
                print(f"{name:34} {rates}   {found['ratio']:.3f}", flush=True)
    ratios = [found["ratio"] for found in told.values()]
    lowest, mean = min(ratios), statistics.geometric_mean(ratios)
    if asked.json:
        print(json.dumps({"models": told, "lowest": lowest, "geometric_mean": mean, "threads": 2, "batch": BATCH}))
    else:
        print(f"{len(ratios)} ratios: lowest {lowest:.3f}, geometric mean {mean:.3f}")


if __name__ == "__main__":
    main()
