"""hexavit's models where others look for them: in timm's registry, and as a backbone for detection.

Each neighbour is imported when it is used: `import hexavit` needs PyTorch alone.
"""

from hexavit.integrations.torchvision import MapBackbone, SimplePyramid, backbone

__all__ = ["MapBackbone", "SimplePyramid", "backbone", "register_with_timm"]


def register_with_timm() -> list[str]:
    """Put every named model into timm's registry, so that `timm.create_model` and whatever builds on it finds it.

    Names that timm lacks go in as they are (`cvt_13`), all others as `hexavit_<name>`: timm's own entries stay as they
    are. A second call adds only what was registered with hexavit since.

    Returns:
        All names under which hexavit's models stand in timm's registry.
    """
    from hexavit.integrations.timm import register_all

    return register_all()
