"""Largest logit difference after loading and converting checkpoints, for each model, origin and direction.

    python benchmarks/checkpoints.py

`read`: the weights of another library's model are loaded here. `write`: our weights are converted and loaded by the
other library. float32, evaluation mode, two images of 64 x 64; differences are relative to the largest logit. The
authors' CvT is not installed, so its reference record is used.
Prints a Markdown table.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import hexavit
from hexavit.checkpoints import convert

sys.path.insert(0, str(Path(__file__).parent.parent))

SIDE, CLASSES = 64, 10
GELU = ("stages.*.feedforward.act=gelu",)
Peer = Callable[[Path | None], nn.Module]


def transformers_cvt(path: Path | None) -> nn.Module:
    from transformers import CvtConfig, CvtForImageClassification

    if path is not None:
        return CvtForImageClassification.from_pretrained(path)
    return CvtForImageClassification(CvtConfig(num_labels=CLASSES))


def transformers_vit(path: Path | None) -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    if path is not None:
        return ViTForImageClassification.from_pretrained(path)
    sizes = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768, "image_size": SIDE}
    return ViTForImageClassification(ViTConfig(num_labels=CLASSES, layer_norm_eps=1e-6, **sizes))


def timm_vit(path: Path | None) -> nn.Module:
    import timm
    from safetensors.torch import load_file

    model = timm.create_model("vit_tiny_patch16_224", img_size=SIDE, num_classes=CLASSES)
    if path is not None and path.suffix == ".npz":
        model.load_pretrained(str(path))  # timm's reader of the authors' arrays
    elif path is not None:
        model.load_state_dict(load_file(path))
    return model


def vit_pytorch_cvt(path: Path | None) -> nn.Module:
    from vit_pytorch.cvt import CvT

    model = CvT(num_classes=CLASSES)
    if path is not None:
        model.load_state_dict(torch.load(path, weights_only=True))
    return model


CASES: tuple[tuple[str, tuple[str, ...], str, str, Peer, bool], ...] = (
    ("cvt_13", GELU, "huggingface", "folder", transformers_cvt, True),
    ("cvt_13_vit_pytorch", (), "vit_pytorch", "v.pth", vit_pytorch_cvt, True),
    ("vit_tiny_patch16_224", (), "timm", "t.safetensors", timm_vit, True),
    ("vit_tiny_patch16_224", (), "huggingface", "folder", transformers_vit, True),
    ("vit_tiny_patch16_224", (), "authors", "a.npz", timm_vit, False),
)


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        out = model.eval()(x)
    return getattr(out, "logits", out)


def off(theirs: Tensor, ours: Tensor) -> float:
    return ((theirs - ours).abs().max() / theirs.abs().max()).item()


def ours(name: str, overrides: tuple[str, ...]) -> Any:
    size = SIDE if name.startswith("vit") else None
    return hexavit.create_model(name, num_classes=CLASSES, img_size=size, overrides=overrides)


def measured() -> Iterator[tuple[str, str, str, float]]:
    x = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    yield "cvt_13", "authors", "read", against_the_record()
    for name, overrides, origin, file, peer, reads in CASES:
        if reads:
            torch.manual_seed(0)
            there, here = peer(None), ours(name, overrides)
            hexavit.load_checkpoint(here, there.state_dict())
            yield name, origin, "read", off(logits_of(there, x), logits_of(here, x))
        torch.manual_seed(1)
        here = ours(name, overrides)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / file
            convert(here.state_dict(), path, origin, model=here.architecture)
            yield name, origin, "write", off(logits_of(peer(path), x), logits_of(here, x))


def against_the_record() -> float:
    from tests.parity import golden
    from tests.parity.test_reference import MODELS

    record = MODELS["cvt-13-224"]
    model = hexavit.create_model("cvt_13")
    hexavit.load_checkpoint(model, golden.state_of(record))
    logits = logits_of(model, golden.image(record["input"]))
    return ((logits[:, :8] - torch.tensor(record["logits"])).abs().max() / logits.abs().max()).item()


if __name__ == "__main__":
    torch.set_num_threads(2)
    print("| model | origin | direction | largest difference |\n|---|---|---|---|")
    for name, origin, direction, difference in measured():
        print(f"| `{name}` | `{origin}` | {direction} | {difference:.1e} |", flush=True)
