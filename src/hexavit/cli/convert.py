"""Write a weight file in another layout. Values are not changed."""

from __future__ import annotations

import json
from argparse import Namespace

from hexavit.cli._parser import Parser, add_json, add_overrides, add_overwrite, check_output


def add_arguments(parser: Parser) -> None:
    parser.add_argument("file", metavar="IN", help=".safetensors, .pth or .npz file, transformers folder or run folder")
    parser.add_argument(
        "out", metavar="OUT", help="file to write, its format given by its suffix; for huggingface also a folder"
    )
    parser.add_argument(
        "--to",
        metavar="LAYOUT",
        required=True,
        help="layout to write: authors, huggingface, timm, torchvision, vit_pytorch or hexavit",
    )
    parser.add_argument("--model", metavar="NAME", help="model of the weights, if their shapes leave it open")
    parser.add_argument("--activation", metavar="NAME", help="activation to write into the configuration, such as gelu")
    parser.add_argument("--entry", metavar="KEY", help="entry to convert, if the file holds several state dicts")
    parser.add_argument("--prefix", metavar="TEXT", help="prefix of the keys to read, such as backbone")
    add_overrides(parser)
    add_overwrite(parser, "OUT")
    add_json(parser)


def run(args: Namespace) -> None:
    from hexavit.checkpoints import convert

    check_output(args.out, overwrite=args.overwrite)
    report = convert(
        args.file,
        args.out,
        args.to,
        model=args.model,
        overrides=args.overrides,
        activation=args.activation,
        entry=args.entry,
        prefix=args.prefix,
        overwrite=True,  # checked above, with the option's name
    )
    print(json.dumps(report.as_dict(), indent=2) if args.json else report)
