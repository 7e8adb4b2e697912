"""Make the label maps of a data set with a teacher, for `hexavit train --label-maps`; or check a folder of them."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import asdict
from typing import Literal

from hexavit.cli._parser import Parser, UsageError, add_img_size, add_json, add_overwrite, img_size_of
from hexavit.data.source import OnBadImage
from hexavit.inference.device import Device


def add_arguments(parser: Parser) -> None:
    from hexavit.teachers.making import SHARD, TOP

    parser.add_argument("action", metavar="ACTION", type=Literal["make", "check"], help="make or check")
    parser.add_argument(
        "--teacher",
        metavar="SOURCE",
        help="run folder, saved folder, weight file or model name; timm:NAME or torchvision:NAME, with @FILE for the "
        "weights of a file",
    )
    parser.add_argument("--data", metavar="DATA", help="data set, as in `hexavit train --data`")
    parser.add_argument("--out", metavar="FOLDER", required=True, help="folder of the label maps")
    parser.add_argument("--top", type=int, default=TOP, help="logits kept at each position")
    add_img_size(parser, "height and width of the teacher's input, or one number for both; by default its own")
    parser.add_argument("--batch-size", type=int, default=32, help="images per forward pass")
    parser.add_argument("--shard-size", type=int, default=SHARD, help="images per file")
    parser.add_argument("--workers", type=int, help="threads that decode images; by default chosen automatically")
    parser.add_argument("--device", type=Device, default="auto", help="device to compute on")
    parser.add_argument(
        "--train-images", type=int, help="only the images that `hexavit train --train-images N` takes; by default all"
    )
    parser.add_argument("--val-fraction", type=float, default=None, help="as in `hexavit train`, for --train-images")
    parser.add_argument("--split-seed", type=int, default=0, help="as in `hexavit train`, for --train-images")
    parser.add_argument(
        "--on-bad-image", type=OnBadImage, default="error", help="unreadable images: stop with an error, or skip them"
    )
    add_overwrite(parser, "the label maps in the folder")
    add_json(parser)


def run(args: Namespace) -> None:
    from hexavit.teachers.making import check_label_maps, make_label_maps

    if args.action == "check":
        if args.teacher is not None or args.data is not None:
            raise UsageError("hexavit label-maps check takes --out, the folder to check, and no --teacher or --data")
        found = check_label_maps(args.out)
    else:
        missing = [f"--{name}" for name in ("teacher", "data") if getattr(args, name) is None]
        if missing:
            raise UsageError(f"hexavit label-maps make needs {' and '.join(missing)}")
        found = make_label_maps(
            args.teacher,
            args.data,
            args.out,
            top=args.top,
            size=img_size_of(args),
            batch_size=args.batch_size,
            shard_size=args.shard_size,
            workers=args.workers,
            device=args.device,
            train_images=args.train_images,
            val_fraction=args.val_fraction,
            split_seed=args.split_seed,
            on_bad_image=args.on_bad_image,
            overwrite=args.overwrite,
            tell=(lambda _: None) if args.json else lambda text: print(text, flush=True),
        )
    print(json.dumps(asdict(found), indent=2) if args.json else found)
    if not args.json:
        for name, reason in found.skipped.items():
            print(f"left out: {name}: {reason}")
