"""Count a model's parameters, multiply-adds and activation bytes, by stage and by kind of part."""

from __future__ import annotations

import json
from argparse import Namespace

from hexavit.cli._parser import MODEL, Parser, add_img_size, add_json, add_overrides, architecture_of, img_size_of


def add_arguments(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    add_img_size(parser, "image size to count at: height and width, or one side of a square")
    add_overrides(parser)
    add_json(parser)


def run(args: Namespace) -> None:
    from hexavit.profiling import profile

    counted = profile(architecture_of(args.model, img_size=img_size_of(args), overrides=args.overrides))
    print(json.dumps(counted.as_dict(), indent=2) if args.json else counted.table())
