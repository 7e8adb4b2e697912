"""Classes of the images in folders, on the cores or machines of a Ray cluster. pip install 'ray[data]'

    python examples/ray_data.py runs/flowers photos --out predictions --workers 2
    RAY_ADDRESS=... python examples/ray_data.py model.onnx photos --out predictions --workers 64

Ray Data splits the list of images into blocks and maps a predictor over them, one in each worker. The predictor travels
as paths, which every machine must reach: a shared file system. --out gets one Parquet file per block, with the columns
path, class, probability and error.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

import hexavit
from hexavit.inference import Predictor, find_images


class Predict:
    """Predicts the classes of a block of paths; its engine is opened in the worker, once."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def __call__(self, block: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Add the most probable class to each path, or the reason why it cannot be read."""
        paths = [str(path) for path in block["path"]]
        errors: list[str] = []
        found = {
            str(each.image): each
            for each in self.predictor.stream(paths, top=1, threads=1, on_error=lambda error: errors.append(str(error)))
        }
        reasons = {path: next((e for e in errors if e.startswith(path)), "") for path in paths if path not in found}
        best = [found[path].top[0] if path in found else ("", float("nan")) for path in paths]
        return {
            "path": np.array(paths),
            "class": np.array([name for name, _ in best]),
            "probability": np.array([probability for _, probability in best]),
            "error": np.array([reasons.get(path, "") for path in paths]),
        }


def predict(predictor: Predictor, paths: list[str], *, workers: int, block: int = 256) -> Any:
    """A Ray data set of the predictions, in the order of the paths.

    Args:
        predictor: of `hexavit.load_predictor`.
        paths: of the images.
        workers: processes that compute.
        block: images that a worker takes at once.
    """
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    listed = ray.data.from_items([{"path": path} for path in paths])
    return listed.map_batches(Predict, fn_constructor_args=(predictor,), batch_size=block, concurrency=workers)


def main() -> None:
    """Predict and write."""
    parser = argparse.ArgumentParser(description="Predict the classes of images on a Ray cluster.")
    parser.add_argument("source", help="run folder, exported file or model name")
    parser.add_argument("images", nargs="+", help="image files, folders or quoted patterns")
    parser.add_argument("--out", required=True, help="folder for Parquet files")
    parser.add_argument("--engine", default="auto", choices=["auto", "torch", "onnxruntime", "openvino"])
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    predictor = hexavit.load_predictor(asked.source, engine=asked.engine)
    paths = [str(path.absolute()) for path in find_images(asked.images)]
    predict(predictor, paths, workers=asked.workers).write_parquet(asked.out)


if __name__ == "__main__":
    main()
