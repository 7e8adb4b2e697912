"""Count a model's parameters, multiply-adds and activation bytes, by stage and by kind of part."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import asdict

from hexavit.cli._parser import MODEL, Parser, add_img_size, add_json, add_overrides, architecture_of, img_size_of


def add_arguments(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    add_img_size(parser, "image size to count at: height and width, or one side of a square")
    add_overrides(parser)
    help = "print the cost formula of each part beside the counted multiply-adds"
    parser.add_argument("--formula", action="store_true", help=help)
    add_json(parser)


def run(args: Namespace) -> None:
    from hexavit.network.backbone import Backbone
    from hexavit.profiling import formula_table, formulas, profile

    architecture = architecture_of(args.model, img_size=img_size_of(args), overrides=args.overrides)
    counted = profile(architecture)
    if args.formula:
        found = formulas(Backbone(architecture), counted)
        print(json.dumps([asdict(each) for each in found], indent=2) if args.json else formula_table(found))
        return
    print(json.dumps(counted.as_dict(), indent=2) if args.json else counted.table())
