"""List the models that there are, or those whose name fits a pattern, or whose published weights fit."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hexavit.cli._parser import Parser, add_json
from hexavit.errors import HexavitError, nearest


def add_arguments(parser: Parser) -> None:
    parser.add_argument("pattern", metavar="PATTERN", nargs="?", type=str, default="*", help="such as 'cvt_*'")
    parser.add_argument("--license", type=str, default=None, help="with published weights under it, such as apache-2.0")
    parser.add_argument("--trained-on", type=str, default=None, help="with weights that saw it, such as ImageNet-22k")
    parser.add_argument("--weights", action="store_true", help="list the weights, as MODEL.TAG, and not the models")
    add_json(parser)


def run(parser: Parser, arguments: Sequence[str]) -> None:
    asked = parser.parse_args(arguments)

    import hexavit

    asked_of = {"license": asked.license, "trained_on": asked.trained_on}
    filters = {key: value for key, value in asked_of.items() if value is not None}
    listing = hexavit.list_weights if asked.weights else hexavit.list_models
    names = listing(asked.pattern, **filters)
    if not names:
        if filters or asked.weights:
            raise HexavitError(f"no model {asked.pattern!r} has such published weights: leave a filter out")
        raise HexavitError(f"no model is named {asked.pattern!r}: {nearest(asked.pattern, hexavit.list_models())}")
    print(json.dumps(names, indent=2) if asked.json else "\n".join(names))
