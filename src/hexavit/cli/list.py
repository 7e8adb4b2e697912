"""List the models that there are, or those whose name fits a pattern."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hexavit.cli._parser import Parser, add_json
from hexavit.errors import HexavitError, nearest


def add_arguments(parser: Parser) -> None:
    parser.add_argument("pattern", metavar="PATTERN", nargs="?", type=str, default="*", help="such as 'cvt_*'")
    add_json(parser)


def run(parser: Parser, arguments: Sequence[str]) -> None:
    asked = parser.parse_args(arguments)

    import hexavit

    names = hexavit.list_models(asked.pattern)
    if not names:
        raise HexavitError(f"no model is named {asked.pattern!r}: {nearest(asked.pattern, hexavit.list_models())}")
    print(json.dumps(names, indent=2) if asked.json else "\n".join(names))
