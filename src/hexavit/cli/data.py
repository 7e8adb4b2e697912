"""Check data before training: classes, sizes, duplicates, broken files, what a model sees; or fetch a public set."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Literal

from hexavit.cli._parser import Parser, add_img_size, add_json, add_overwrite, check_output, img_size_of
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
    add_overwrite(parser, "the file of --sheet")
    add_json(parser)


def run(args: Namespace) -> None:
    if args.action == "fetch":
        from hexavit.data.published import fetch

        print(f"{args.data}: {len(fetch(args.data).names)} images are there")
        return

    from hexavit.data import open_source
    from hexavit.data.check import check_data

    check_output(args.sheet, ".png", overwrite=args.overwrite)
    source = open_source(args.data)
    if args.sheet is not None:
        from hexavit.data.preview import draw_data, input_of

        draw_data(source, input_of(source, args.model, img_size_of(args)), Path(args.sheet), augment=args.augment)
    found = check_data(source, val_fraction=args.val_fraction, split_seed=args.split_seed, workers=args.workers)
    print(json.dumps(found.as_dict(), indent=2) if args.json else found)
