"""Check data before training: classes, sizes, duplicates, broken files, what a model sees; or fetch a public set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from hexavit.cli._parser import Parser, add_img_size, add_json, img_size_of
from hexavit.data.source import Augment


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "action",
        metavar="ACTION",
        type=Literal["check", "fetch"],
        help="check or fetch",
    )
    parser.add_argument("data", metavar="DATA", type=str, help="what `hexavit train --data` takes")
    parser.add_argument("--val-fraction", type=float, default=0.2, help="held out, where the data has no val part")
    parser.add_argument("--split-seed", type=int, default=0, help="seed of that split")
    parser.add_argument("--sheet", metavar="PNG", type=str, default=None, help="draw images as a model sees them")
    parser.add_argument("--model", type=str, default="cvt_nano", help="whose input the sheet shows")
    add_img_size(parser, "height and width of that input, or its side")
    parser.add_argument("--augment", type=Augment, default="auto", help="of the sheet's training images")
    parser.add_argument("--workers", type=int, default=None, help="processes that read images; by default chosen")
    add_json(parser)


def run(parser: Parser, arguments: Sequence[str]) -> None:
    asked = parser.parse_args(arguments)

    if asked.action == "fetch":
        from hexavit.data.published import fetch

        print(f"{asked.data}: {len(fetch(asked.data).names)} images are there")
        return

    from hexavit.data import open_source
    from hexavit.data.check import check_data
    from hexavit.files import check_ending

    check_ending(asked.sheet, ".png")
    source = open_source(asked.data)
    if asked.sheet is not None:
        from hexavit.data.preview import draw_data, input_of

        draw_data(source, input_of(source, asked.model, img_size_of(asked)), Path(asked.sheet), augment=asked.augment)
    found = check_data(source, val_fraction=asked.val_fraction, split_seed=asked.split_seed, workers=asked.workers)
    print(json.dumps(found.as_dict(), indent=2) if asked.json else found)
