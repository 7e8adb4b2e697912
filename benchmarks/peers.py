"""Compare every family with timm's and transformers' model by `hexavit benchmark`, plain and optimized.

    python benchmarks/peers.py [--models NAME ...] [--against timm|transformers] [OPTION ...]

OPTIONs are those of `hexavit benchmark`, such as `--rounds 15`, `--engines torch,onnxruntime,openvino` or `--train`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from hexavit.cli import main as hexavit

# One size of every family that another library has, by library.
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
PYRAMIDS = tuple(name for name in TIMM if not name.startswith(("vit", "deit", "cait")))


def compare(
    description: str | None, names: dict[str, Sequence[str]], options: Sequence[str], argv: Sequence[str] | None = None
) -> int:
    """Call `hexavit benchmark` once per library with its models; arguments of the command line override `options`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", help="measure only these")
    parser.add_argument("--against", choices=names, help="compare with this library only")
    asked, others = parser.parse_known_args(argv)
    status = 0
    for library in [asked.against] if asked.against else names:
        models = [name for name in asked.models or names[library] if name in names[library]]
        if models:
            status = hexavit(["benchmark", *models, "--against", library, *options, *others]) or status
    return status


if __name__ == "__main__":
    raise SystemExit(compare(__doc__, PEERS, ["--engines", "torch,optimize", "--threads", "2"]))
