"""Count what a model costs: parameters, multiply-adds and bytes of activations, by stage and by kind of part."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hexavit.cli._parser import Parser, add_img_size, add_json, add_overrides, img_size_of


def add_arguments(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", type=str, help="a name that `hexavit list` gives")
    add_img_size(parser, "height and width in pixels, or the side of a square")
    add_overrides(parser)
    add_json(parser)


def run(parser: Parser, arguments: Sequence[str]) -> None:
    asked = parser.parse_args(arguments)

    from hexavit.models import resolve
    from hexavit.profiling import profile

    found = profile(resolve(asked.model, img_size=img_size_of(asked), overrides=asked.overrides))
    print(json.dumps(found.as_dict(), indent=2) if asked.json else found.table())
