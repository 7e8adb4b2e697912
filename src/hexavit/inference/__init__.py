"""Using a trained model: opened from a run, a folder, a file or a name; image files read; their classes predicted."""

from hexavit.inference.images import read_image
from hexavit.inference.listing import find_images
from hexavit.inference.opening import Ready, open_model, start_from
from hexavit.inference.prediction import Prediction, predict
from hexavit.inference.preprocess import InputSpec
from hexavit.inference.run import Run

__all__ = [
    "InputSpec",
    "Prediction",
    "Ready",
    "Run",
    "find_images",
    "open_model",
    "predict",
    "read_image",
    "start_from",
]
