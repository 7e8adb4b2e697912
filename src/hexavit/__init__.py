"""hexavit: a vision transformer is six choices, and every published model is a row of a six-column table."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hexavit import _deprecated

if TYPE_CHECKING:
    from hexavit import parts
    from hexavit.architecture import Architecture, Branch, Part, Pattern, Stage
    from hexavit.checkpoints import LoadReport, load_checkpoint
    from hexavit.errors import HexavitError
    from hexavit.export import OptimizationReport, optimize
    from hexavit.factory import create_model
    from hexavit.hub import from_pretrained, push_to_hub, save_pretrained
    from hexavit.integrations import backbone, register_with_timm
    from hexavit.models import list_models, list_weights
    from hexavit.network.backbone import Backbone
    from hexavit.parts import PartModule, Tokens, record_attention, register_part
    from hexavit.profiling import Profile, profile

__version__ = "0.1.0"

_deprecated.install()

__all__ = [
    "Architecture",
    "Backbone",
    "Branch",
    "HexavitError",
    "LoadReport",
    "OptimizationReport",
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
    "optimize",
    "parts",
    "profile",
    "push_to_hub",
    "record_attention",
    "register_part",
    "register_with_timm",
    "save_pretrained",
]

# A package is imported when one of its names is used: `import hexavit` and `--help` stay quick, and the command line
# can set environment variables before PyTorch is loaded.
_PACKAGES = {
    "network.backbone": ("Backbone",),
    "architecture": ("Architecture", "Branch", "Part", "Pattern", "Stage"),
    "checkpoints": ("LoadReport", "load_checkpoint"),
    "integrations": ("backbone", "register_with_timm"),
    "errors": ("HexavitError",),
    "export": ("OptimizationReport", "optimize"),
    "factory": ("create_model",),
    "hub": ("from_pretrained", "push_to_hub", "save_pretrained"),
    "models": ("list_models", "list_weights"),
    "parts": ("PartModule", "Tokens", "record_attention", "register_part"),
    "profiling": ("Profile", "profile"),
}
_ABOVE = {"Study": "studies", "explain": "explain", "export_model": "export", "load_predictor": "inference"}
"""Names from packages above this one, which is below them for imports, and such packages: given when they are asked
for."""
_PACKAGE_OF = {name: package for package, names in _PACKAGES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _ABOVE:
        package = import_module(f"hexavit.{_ABOVE[name]}")
        return package if _ABOVE[name] == name else getattr(package, name)
    if name in _PACKAGE_OF:
        return getattr(import_module(f"hexavit.{_PACKAGE_OF[name]}"), name)
    if name in _PACKAGES:
        return import_module(f"hexavit.{name}")
    raise AttributeError(f"module 'hexavit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PACKAGES, *_ABOVE})
