"""Using a trained model: a run folder opened, image files read, and their classes predicted."""

from hexavit.inference.images import find_images, read_image
from hexavit.inference.prediction import Prediction, predict
from hexavit.inference.preprocess import InputSpec
from hexavit.inference.run import Run

__all__ = ["InputSpec", "Prediction", "Run", "find_images", "predict", "read_image"]
