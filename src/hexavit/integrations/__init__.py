"""hexavit's models in timm's registry, and as backbones for torchvision's detectors.

timm and torchvision are imported when they are used: `import hexavit` needs PyTorch alone.
"""

from hexavit.integrations.torchvision import MapBackbone, SimplePyramid, backbone

__all__ = ["MapBackbone", "SimplePyramid", "backbone", "register_with_timm"]


def register_with_timm() -> list[str]:
    """Register every named model with timm, for `timm.create_model` and the libraries that use it.

    A name that timm lacks is registered unchanged (`cvt_13`), any other as `hexavit_<name>`; timm's own entries are not
    changed. A second call adds the models that were registered with hexavit in between.

    Returns:
        The names of hexavit's models in timm's registry.
    """
    from hexavit.integrations.timm import register_all

    return register_all()
