"""Measure the peak memory of attention parts over many tokens, beside plain attention.

    python benchmarks/attention_memory.py [--side 64] [--dim 192] [--heads 3]

float32, one image of side x side tokens, no extra tokens, random weights. Peak memory excludes weights and input; each
part runs in a separate process, once without gradients and once with a backward pass.
"""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext

import torch
from measure import in_own_process, peak_bytes, processor

PARTS = {
    "global, explicit softmax": "global",
    "global, fused kernel": "global",
    "sparse, strided": "sparse",
    "sparse, heads in turn": "sparse(merge=false)",
    "sparse, fixed": "sparse(patterns=(block, summary))",
    "longformer, window 64": "longformer(window=64)",
    "longformer, 2-D, window 8": "longformer(window=8, two_d=true)",
    "window 8 x 8": "window(window=8)",
}


def measure(name: str, side: int, dim: int, heads: int) -> dict[str, float]:
    """Peak bytes of one pass, without and with gradients."""
    import hexavit
    from hexavit.parts import Tokens, softmax_path

    edits = [f"stages.0.{name_}={value}" for name_, value in (("dim", dim), ("depth", 1), ("attention.heads", heads))]
    edits += [f"stages.0.attention={PARTS[name]}", "head=pool"]
    model = hexavit.create_model("vit_tiny_patch16_224", img_size=16 * side, overrides=edits)
    part = model.stages[0].blocks[0].attention
    x = torch.randn(1, side * side, dim)

    def forward() -> torch.Tensor:
        with softmax_path(model) if "explicit" in name else nullcontext():
            image: torch.Tensor = part(Tokens(x, (side, side))).image
            return image

    def inference() -> object:
        with torch.inference_mode():
            return forward()

    forward().sum().backward()  # gradients of the weights exist from here on
    return {"inference": peak_bytes(inference), "training": peak_bytes(lambda: forward().sum().backward())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--dim", type=int, default=192)
    parser.add_argument("--heads", type=int, default=3)
    parser.add_argument("--measure", choices=PARTS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure, given.side, given.dim, given.heads)))
        return
    print(json.dumps({"processor": processor(), "tokens": given.side**2, "width": given.dim, "heads": given.heads}))
    sizes = [f"--{name}={getattr(given, name)}" for name in ("side", "dim", "heads")]
    for name in PARTS:
        found = in_own_process(__file__, "--measure", name, *sizes)
        print(
            json.dumps({"part": name, **{key: round(value / 2**20, 1) for key, value in found.items()}, "unit": "MiB"})
        )


if __name__ == "__main__":
    main()
