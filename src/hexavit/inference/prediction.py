"""The classes of image files, most probable first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from hexavit.errors import HexavitError
from hexavit.inference.device import Device, pick_device
from hexavit.inference.images import find_images, read_image
from hexavit.inference.opening import Ready
from hexavit.inference.preprocess import Transform
from hexavit.inference.run import Run, Weights


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image.

    Attributes:
        image: the file.
        top: class names with their probabilities (fractions of 1), most probable first.
    """

    image: Path
    top: tuple[tuple[str, float], ...]

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        top = [{"class": name, "probability": probability} for name, probability in self.top]
        return {"image": str(self.image), "top": top}


def predict(
    source: Run | Ready,
    images: Iterable[str | Path],
    *,
    top: int = 3,
    batch_size: int = 64,
    weights: Weights = "best",
    device: Device = "auto",
) -> Iterator[Prediction]:
    """Predict files, and the images in folders, batch by batch: memory does not grow with their number.

    Args:
        source: a run folder that :meth:`Run.open` accepted, or what :func:`open_model` gave.
        images: files and folders.
        top: how many classes to give for each image; all of them when there are fewer.
        batch_size: images that go through the model at once.
        weights: of a run, those of the best or of the last epoch.
        device: where to compute.

    Yields:
        One prediction an image, in the order given.

    Raises:
        DataError: naming the first path that does not exist, before anything is computed, or the first
            image that cannot be read, when its turn comes.
        RunError: when the run cannot be read.
    """
    if top < 1 or batch_size < 1:
        raise HexavitError(f"top and batch size are at least 1, not {top} and {batch_size}")
    paths = find_images(images)
    place = pick_device(device)
    ready = Ready.of_run(source, weights) if isinstance(source, Run) else source
    transform, model = ready.input_spec.transform(), ready.model.to(place)
    return _predict(model, ready.classes, transform, place, paths, min(top, len(ready.classes)), batch_size)


@torch.inference_mode()
def _predict(
    model: nn.Module,
    classes: Sequence[str],
    transform: Transform,
    place: torch.device,
    paths: Sequence[Path],
    top: int,
    batch_size: int,
) -> Iterator[Prediction]:
    queue = iter(paths)
    while chunk := list(islice(queue, batch_size)):
        batch = torch.stack([transform(read_image(path)) for path in chunk]).to(place)  # (B, C, H, W)
        found = model(batch).float().softmax(dim=-1).topk(top, dim=-1)  # (B, top) twice
        for path, values, indices in zip(chunk, found.values.tolist(), found.indices.tolist(), strict=True):
            yield Prediction(path, tuple((classes[i], value) for i, value in zip(indices, values, strict=True)))
