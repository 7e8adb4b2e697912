"""BoTNet's published weights: timm's of `botnet26t_256`. Its authors published none."""

from __future__ import annotations

from hexavit.models.weights import Preprocessing, in1k_weight

WEIGHTS = (
    in1k_weight(
        "timm/botnet26t_256.c1_in1k",
        0.792,
        "timm, botnet26t_256",
        "apache-2.0",
        tag="c1_in1k",
        img_size=256,
        preprocessing=Preprocessing(crop_pct=0.95),
    ),
)
