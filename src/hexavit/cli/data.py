"""Check data before training: classes, sizes, duplicates, broken and unused files; draw what a model receives; or
download a published data set."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hexavit.cli._parser import Parser, UsageError, add_img_size, add_json, add_overwrite, check_output, img_size_of
from hexavit.data.source import Augment

if TYPE_CHECKING:
    from hexavit.data import Source


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "action",
        metavar="ACTION",
        type=Literal["check", "fetch"],
        help="check or fetch",
    )
    parser.add_argument("data", metavar="DATA", type=str, help="the data, as for `hexavit train --data`")
    parser.add_argument(
        "--val-fraction",
        type=float,
        default=None,
        help="share for validation, where the data has no val part; by default as in training",
    )
    parser.add_argument("--split-seed", type=int, default=0, help="seed of that split")
    parser.add_argument(
        "--sheet", metavar="PNG", type=str, default=None, help="draw images as a model receives them in training"
    )
    parser.add_argument("--model", type=str, default=None, help="model of the sheet; chosen automatically as by train")
    add_img_size(parser, "height and width of its input, or one number for both; chosen automatically as by train")
    parser.add_argument(
        "--augment", type=Augment, default="auto", help="augmentation of the sheet; auto: chosen as by train"
    )
    parser.add_argument("--workers", type=int, default=None, help="threads that read images; chosen automatically")
    add_overwrite(parser, "the file of --sheet")
    add_json(parser)


def run(args: Namespace) -> None:
    if args.action == "fetch":
        from hexavit.data.published import fetch

        print(f"{args.data}: {len(fetch(args.data).names)} images are there")
        return

    from hexavit.data import open_source
    from hexavit.data.check import check_data

    if args.sheet is None and (args.model, args.img_size, args.augment) != (None, None, "auto"):
        raise UsageError("--model, --img-size and --augment describe the sheet: give --sheet too")
    check_output(args.sheet, ".png", overwrite=args.overwrite)
    source = open_source(args.data)
    if args.sheet is not None:
        _draw(source, args)
    found = check_data(source, val_fraction=args.val_fraction, split_seed=args.split_seed, workers=args.workers)
    print(json.dumps(found.as_dict(), indent=2) if args.json else found)


def _draw(source: Source, args: Namespace) -> None:
    """Draw the sheet with the settings that `hexavit train` would choose."""
    from hexavit.data.preview import draw_data, input_of
    from hexavit.errors import DataError
    from hexavit.training.auto_config.facts import gather_facts
    from hexavit.training.auto_config.rules import SMALL_MODELS, choose_settings
    from hexavit.training.config import TrainConfig

    given: dict[str, Any] = {"data": args.data, "val_fraction": args.val_fraction, "split_seed": args.split_seed}
    given |= {"model": args.model} if args.model is not None else {}
    given |= {"img_size": size} if (size := img_size_of(args)) is not None else {}
    given |= {"augment": args.augment} if args.augment != "auto" else {}
    try:
        config, _ = choose_settings(gather_facts(given, source), given)
    except DataError:  # no training is possible yet; the check says why
        config = TrainConfig.from_mapping({"model": SMALL_MODELS[0][1], **given})
    draw_data(
        source,
        input_of(source, config.model, config.img_size, config.in_chans),
        Path(args.sheet),
        augment=config.augment,
        magnitude=config.magnitude,
        erasing=config.erasing,
    )
