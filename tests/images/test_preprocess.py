import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import hexavit
from hexavit.errors import DataError
from hexavit.images.preprocess import InputSpec

SPEC = InputSpec((24, 32), 3, (0.5, 0.4, 0.3), (0.2, 0.2, 0.1), "bicubic", 0.875, "center")


def test_an_image_becomes_a_normalised_tensor() -> None:
    made = SPEC.transform()(Image.new("RGBA", (70, 50), (255, 0, 51)))
    expected = torch.tensor([(1 - 0.5) / 0.2, (0 - 0.4) / 0.2, (0.2 - 0.3) / 0.1])
    assert made.shape == (3, 24, 32)
    torch.testing.assert_close(made[:, 5, 7], expected)


def test_squash_keeps_what_a_centre_crop_loses() -> None:
    image = Image.new("L", (40, 10))
    image.putpixel((0, 5), 255)  # at the far left
    spec = InputSpec((10, 10), 1, (0.0,), (1.0,), "bilinear", 1.0, "squash")
    assert spec.transform()(image).max() > 0
    assert replace(spec, crop_mode="center").transform()(image).max() == 0


def test_it_survives_json() -> None:
    assert InputSpec.from_dict(json.loads(json.dumps(SPEC.as_dict()))) == SPEC


def test_it_follows_the_model() -> None:
    spec = InputSpec.of_model(hexavit.create_model("cvt_nano", in_chans=1, img_size=(32, 48)))
    assert (spec.channels, spec.size, len(spec.mean)) == (1, (32, 48), 1)


def test_means_must_fit_the_channels() -> None:
    with pytest.raises(DataError, match="1 channels need as many means"):
        replace(SPEC, channels=1)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_large_image_is_resized_with_antialiasing_to_8_bits(interpolation: str, channels: int) -> None:
    """Pillow's own resize, which smooths when it shrinks and rounds to bytes, is the expected result."""
    image = Image.effect_noise((200, 160), 90).convert("L" if channels == 1 else "RGB")
    spec = InputSpec((28, 28), channels, (0.4,) * channels, (0.3,) * channels, interpolation, 0.875, "center")
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    resized = image.resize((40, 32), filters[interpolation]).crop((6, 2, 34, 30))
    pixels = torch.from_numpy(np.array(resized)).reshape(28, 28, channels).permute(2, 0, 1)
    assert torch.equal(spec.pixels()(image), pixels)
    torch.testing.assert_close(spec.transform()(image), (pixels / 255 - 0.4) / 0.3, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("name", "crop_pct", "interpolation"),
    [
        ("t2t_vit_14", 0.9, "bicubic"),  # yitu-opensource/T2T-ViT, models/t2t_vit.py: _cfg
        ("t2t_vit_t_14", 0.9, "bicubic"),
    ],
)
def test_preprocessing_is_that_of_the_authors(name: str, crop_pct: float, interpolation: str) -> None:
    spec = InputSpec.of_model(hexavit.create_model(name))
    assert (spec.size, spec.crop_pct, spec.interpolation, spec.crop_mode) == (
        (224, 224),
        crop_pct,
        interpolation,
        "center",
    )
    assert (spec.mean, spec.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_white_is_saved_only_where_16_bits_use_fewer() -> None:
    assert "white" not in SPEC.as_dict()
    twelve = replace(SPEC, white=4095)
    assert InputSpec.from_dict(json.loads(json.dumps(twelve.as_dict()))) == twelve
