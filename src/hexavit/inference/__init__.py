"""Using a trained model: opened from a run, a folder, a file or a name; image files read; their classes predicted."""

from hexavit.images.decode import read_image
from hexavit.images.listing import find_images
from hexavit.images.preprocess import InputSpec
from hexavit.inference.load_model import Ready, open_model, start_from
from hexavit.inference.prediction import Prediction, predict
from hexavit.runs.run_folder import Run

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
