"""The handwritten digits that come with scikit-learn: 1797 grey images of 8 x 8 pixels by 43 writers."""

from __future__ import annotations

import numpy as np
from PIL import Image

from hexavit.data.source import Hints, Source
from hexavit.images.checksum import pixel_checksum


class Digits(Source):
    """Handwritten digits, as grey images that a model takes at 32 x 32."""

    name = "digits"

    def __init__(self) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        self._pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8), from 0 .. 16
        self.identity = self.name
        self.classes = tuple(map(str, digits.target_names))
        self.labels = tuple(map(int, digits.target))
        self.names = tuple(f"{number:04d}" for number in range(len(self.labels)))
        self.parts = {}
        self.hints = Hints(
            channels=1, augment="shift", size=(32, 32), mean=(0.305,), std=(0.376,), crop_pct=1.0, in_memory=True
        )

    def load(self, number: int) -> Image.Image:
        return Image.fromarray(self._pixels[number])

    def checksum(self, number: int) -> str:
        return pixel_checksum(self.load(number))
