"""Show what a weight file holds: its layout, model, image size and classes, and its other entries."""

from __future__ import annotations

import json
from argparse import Namespace

from hexavit.cli._parser import Parser, add_json


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "file", metavar="FILE", help=".safetensors, .pth or .npz file, transformers folder or run folder"
    )
    parser.add_argument("--entry", metavar="KEY", help="entry to show, if the file holds several state dicts")
    parser.add_argument("--prefix", metavar="TEXT", help="prefix of the keys to read, such as backbone")
    add_json(parser)


def run(args: Namespace) -> None:
    from hexavit.checkpoints import inspect_checkpoint

    facts = inspect_checkpoint(args.file, entry=args.entry, prefix=args.prefix)
    print(json.dumps(facts.as_dict(), indent=2) if args.json else facts)
