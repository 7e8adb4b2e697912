import json
from dataclasses import replace

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
