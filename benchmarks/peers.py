"""Compare every family with timm's or transformers' model in one run: float32, 2 threads, batch 8, inference.

    python benchmarks/peers.py [--rounds N] [--models NAME ...] [--against timm|transformers] [--json]

Each model runs at its default image size with random weights. Prints the processor and, for each model, images per
second of hexavit's model, of the same model after `hexavit.optimize`, and of the other library's model, with the ratios
to the latter (median over interleaved rounds; above 1 means that hexavit is faster); then the lowest ratios and the
geometric means. Every model runs in a separate process, because memory that earlier models used is faster than newly
allocated memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable

import torch
from measure import in_own_process, interleaved, processor, speedup
from torch import nn

import hexavit

# One size of every family that another library has, by library. timm's model has the same name, or the name after the
# colon; transformers' model is built from the configuration that hexavit writes for it.
TIMM = (
    "vit_tiny_patch16_224",
    "deit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "cait_xxs24_224",
    "botnet26t_256",
    "pvt_v2_b0",
    "pvt_v2_b2",
    "pvt_v2_b2_li",
    "twins_pcpvt_small",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "twins_svt_small",
    "tnt_s_patch16_224",
    "mvitv2_tiny",
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
FORMS = ("plain", "optimized")
BATCH = 8


def ours(name: str) -> hexavit.Backbone:
    """hexavit's model."""
    return hexavit.create_model(name)


def from_timm(name: str) -> nn.Module:
    """timm's model for hexavit's name."""
    import timm

    return timm.create_model(name.rpartition(":")[2])


def from_transformers(name: str) -> nn.Module:
    """transformers' model, from the configuration that hexavit writes when it converts weights."""
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
    """A forward pass of one batch."""
    model.eval()
    images = torch.randn(BATCH, 3, *size)

    def run() -> object:
        with torch.inference_mode():
            return model(images)

    return run


def side_by_side(name: str, library: str, rounds: int) -> dict[str, float]:
    """Images per second of the three models, and the ratios to the other library."""
    torch.manual_seed(0)
    model = ours(name.partition(":")[0])
    size = model.architecture.img_size
    runs = {
        "plain": inference(model, size),
        "optimized": inference(hexavit.optimize(model, batch_size=BATCH), size),
        library: inference(BUILDERS[library](name), size),
    }
    seconds = interleaved(runs, rounds)
    rates = {each: BATCH / statistics.median(times) for each, times in seconds.items()}
    return {**rates, **{f"{each}_ratio": speedup(seconds, each, library) for each in FORMS}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--models", nargs="+", help="measure only these")
    parser.add_argument("--against", choices=PEERS, help="compare with this library only")
    parser.add_argument("--json", action="store_true", help="print JSON, images per second")
    parser.add_argument(
        "--one", nargs=2, metavar=("MODEL", "LIBRARY"), help="internal: measure one model in this process"
    )
    asked = parser.parse_args()
    if asked.one:
        torch.set_num_threads(2)
        print(json.dumps(side_by_side(*asked.one, asked.rounds)))
        return
    if not asked.json:
        print(processor())
    found = {}
    for library in [asked.against] if asked.against else PEERS:
        for name in asked.models or PEERS[library]:
            found[f"{name} {library}"] = one = in_own_process(
                __file__, "--one", name, library, "--rounds", str(asked.rounds)
            )
            if not asked.json:
                ours_ = "   ".join(f"{each} {one[each]:7.2f} ({one[f'{each}_ratio']:.3f})" for each in FORMS)
                print(f"{name:34} {ours_}   {library:<12} {one[library]:7.2f} images/s", flush=True)
    ratios = {each: [one[f"{each}_ratio"] for one in found.values()] for each in FORMS}
    summary = {
        each: {"lowest": min(some), "geometric_mean": statistics.geometric_mean(some)} for each, some in ratios.items()
    }
    if asked.json:
        print(json.dumps({"processor": processor(), "models": found, **summary, "threads": 2, "batch": BATCH}))
        return
    for each, ratios in summary.items():
        print(f"{each}: lowest {ratios['lowest']:.3f}, geometric mean {ratios['geometric_mean']:.3f}")


if __name__ == "__main__":
    main()
