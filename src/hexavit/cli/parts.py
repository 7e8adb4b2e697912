"""List the parts, or show the documentation and options of one part and the models that use it."""

from __future__ import annotations

import json
from argparse import Namespace
from shutil import get_terminal_size

from hexavit.cli._parser import Parser, add_json


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="kind of part, name of a part, or both, such as attention.global"
    )
    add_json(parser)


def run(args: Namespace) -> None:
    from hexavit.architecture import aligned
    from hexavit.models.catalogue import find_parts
    from hexavit.parts import KINDS

    pages = find_parts(args.name)
    if args.json:
        print(json.dumps([page.as_dict() for page in pages], indent=2))
    elif args.name is None or args.name in KINDS:
        rows = [["kind", "part", "summary"], *([p.kind, p.name, p.summary] for p in pages)]
        beside = sum(max(len(row[n]) for row in rows) + 2 for n in (0, 1))
        print(aligned(rows, width=max(30, get_terminal_size((126, 24)).columns - beside)))
    else:
        print("\n\n\n".join(page.table() for page in pages))
