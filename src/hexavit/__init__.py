"""hexavit: a vision transformer is six choices, and every published model is a row of a six-column table."""

from hexavit import parts
from hexavit._backbone import Backbone
from hexavit.architecture import Architecture, Part, Pattern, Stage
from hexavit.checkpoints import LoadReport, load_checkpoint
from hexavit.ecosystem import backbone, register_with_timm
from hexavit.errors import HexavitError
from hexavit.hub import create_model, from_pretrained, push_to_hub, save_pretrained
from hexavit.models import list_models, list_weights
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
    "backbone",
    "create_model",
    "from_pretrained",
    "list_models",
    "list_weights",
    "load_checkpoint",
    "parts",
    "profile",
    "push_to_hub",
    "record_attention",
    "register_part",
    "register_with_timm",
    "save_pretrained",
]
