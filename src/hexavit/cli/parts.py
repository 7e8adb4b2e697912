"""Browse the shelves: all parts, or one with its text, its options and who uses it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from shutil import get_terminal_size

from hexavit.cli._parser import Parser, add_json


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        type=str,
        default=None,
        help="a shelf, a part, or both as in attention.global",
    )
    add_json(parser)


def run(parser: Parser, arguments: Sequence[str]) -> None:
    asked = parser.parse_args(arguments)

    from hexavit.architecture import aligned
    from hexavit.models.catalogue import find_parts
    from hexavit.parts import KINDS

    pages = find_parts(asked.name)
    if asked.json:
        print(json.dumps([page.as_dict() for page in pages], indent=2))
    elif asked.name is None or asked.name in KINDS:
        rows = [["column", "part", "what it is"], *([p.kind, p.name, p.summary] for p in pages)]
        beside = sum(max(len(row[n]) for row in rows) + 2 for n in (0, 1))
        print(aligned(rows, width=max(30, get_terminal_size((126, 24)).columns - beside)))
    else:
        print("\n\n\n".join(page.table() for page in pages))
