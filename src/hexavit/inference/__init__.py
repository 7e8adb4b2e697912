"""Loads trained models and exported files, and predicts the classes of images."""

from hexavit._deprecated import renamed
from hexavit.images.decode import read_image
from hexavit.images.listing import find_images
from hexavit.images.preprocess import InputSpec
from hexavit.inference.load_model import LoadedModel, load_model, load_starting_weights
from hexavit.inference.prediction import Prediction, predict
from hexavit.inference.predictor import Predictor, load_predictor
from hexavit.runs.run_folder import Run

__all__ = [
    "InputSpec",
    "LoadedModel",
    "Prediction",
    "Predictor",
    "Run",
    "find_images",
    "load_model",
    "load_predictor",
    "load_starting_weights",
    "predict",
    "read_image",
]

__getattr__ = renamed(
    __name__,
    {
        "Ready": "hexavit.inference.load_model.LoadedModel",
        "open_model": "hexavit.inference.load_model.load_model",
        "start_from": "hexavit.inference.load_model.load_starting_weights",
    },
)
