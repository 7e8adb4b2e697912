"""Small real files of every format, for tests that bend them."""

import io
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import hexavit
from hexavit.checkpoints.conversion import convert

EDITS = ["stages.*.depth=1", "stages.0.dim=8", "stages.1.dim=16", "stages.2.dim=16", "stages.*.attention.heads=2"]


def tiny() -> Any:
    """A CvT of some thousand parameters, the same at every call."""
    torch.manual_seed(5)
    return hexavit.create_model("cvt_nano", num_classes=3, overrides=EDITS).eval()


def authors_state() -> dict[str, Tensor]:
    from hexavit.models.cvt.keys import AUTHORS

    return dict(AUTHORS.to_theirs(tiny().state_dict(), lambda key: 2).state)


def training_file() -> dict[str, Any]:
    """Weights as a training script leaves them: with an optimizer, arguments, a NumPy number."""
    model = tiny()
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(1, 3, 32, 32)).sum().backward()
    optimizer.step()
    return {
        "state_dict": authors_state(),
        "optimizer": optimizer.state_dict(),
        "args": Namespace(lr=0.1, resume="x"),
        "best": np.float64(0.9),
        "epoch": 3,
    }


def write_all(folder: Path) -> dict[str, Path]:
    """One file of each format, by name."""
    from safetensors.torch import save_file

    state = authors_state()
    files = {name: folder / name for name in ("w.safetensors", "w.pth", "old.pth", "run.pth", "old_run.pth", "w.npz")}
    save_file(state, files["w.safetensors"])
    torch.save(state, files["w.pth"])
    torch.save(state, files["old.pth"], _use_new_zipfile_serialization=False)
    torch.save(training_file(), files["run.pth"])
    torch.save(training_file(), files["old_run.pth"], _use_new_zipfile_serialization=False)
    torch.manual_seed(6)
    overrides = ["stages.0.depth=1", "stages.0.dim=12", "stages.0.attention.heads=3"]
    vit = hexavit.create_model("vit_tiny_patch16_224", img_size=32, num_classes=3, overrides=overrides)
    convert(vit.state_dict(), files["w.npz"], "authors", model=vit.architecture)
    return files


class Trap:
    """Pickles as a call that leaves a mark where it is made."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.mark,)


def rezipped(path: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive with its records changed, checksums and all."""
    out = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w", compression) as new:
        for info in old.infolist():
            new.writestr(info.filename, change(info.filename, old.read(info)))
    return out.getvalue()
