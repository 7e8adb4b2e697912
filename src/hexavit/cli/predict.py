"""Predict the classes of image files, and of the images in folders, with a trained model."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hexavit.cli._parser import Parser, add_run, open_run


def add_arguments(parser: Parser) -> None:
    add_run(parser)
    parser.add_argument("images", metavar="IMAGES", nargs="+", type=str, help="image files, and folders of such")
    parser.add_argument("--top", type=int, default=3, help="how many classes to give for an image")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line, for a program to read")


def run(parser: Parser, arguments: Sequence[str]) -> None:
    asked = parser.parse_args(arguments)

    from hexavit.inference import predict

    predictions = predict(
        open_run(asked), asked.images, top=asked.top, batch_size=asked.batch_size, device=asked.device
    )
    for found in predictions:
        if asked.json:
            print(json.dumps(found.as_dict(), ensure_ascii=False))
        else:
            print(f"{found.image}: " + ", ".join(f"{name} {probability:.2%}" for name, probability in found.top))
