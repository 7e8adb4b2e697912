"""The preprocessing in a transformers folder."""

from PIL import Image

from hexavit.checkpoints.folders import image_processor

GIVEN = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "interpolation": "bicubic", "crop_pct": 0.875}


def test_a_centre_crop_for_transformers() -> None:
    """Resampling filters have Pillow's numbers; 224 / 0.875 = 256."""
    made = image_processor({**GIVEN, "crop_mode": "center"}, (224, 224))
    assert made["image_processor_type"] == "BitImageProcessor"
    assert made["resample"] == Image.Resampling.BICUBIC
    assert made["size"] == {"shortest_edge": 256}
    assert made["crop_size"] == {"height": 224, "width": 224}
    assert (made["image_mean"], made["image_std"]) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    assert made["rescale_factor"] == 1 / 255


def test_a_straight_resize_for_transformers() -> None:
    made = image_processor({**GIVEN, "crop_mode": "squash", "crop_pct": 1.0, "interpolation": "bilinear"}, (384, 256))
    assert made["image_processor_type"] == "ViTImageProcessor"
    assert made["resample"] == Image.Resampling.BILINEAR
    assert made["size"] == {"height": 384, "width": 256}
