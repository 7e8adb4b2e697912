"""hexavit: a vision transformer is six choices, and every published model is a row of a six-column table."""

from hexavit import parts
from hexavit._backbone import Backbone
from hexavit.architecture import Architecture, Part, Pattern, Stage
from hexavit.checkpoints import LoadReport, load_checkpoint
from hexavit.errors import HexavitError
from hexavit.models import create_model, list_models
from hexavit.parts import PartModule, Tokens, record_attention, register_part
from hexavit.profiling import Profile, profile

__version__ = "0.1.0"

__all__ = [
    "Architecture",
    "Backbone",
    "HexavitError",
    "LoadReport",
    "Part",
    "PartModule",
    "Pattern",
    "Profile",
    "Stage",
    "Tokens",
    "create_model",
    "list_models",
    "load_checkpoint",
    "parts",
    "profile",
    "record_attention",
    "register_part",
]
