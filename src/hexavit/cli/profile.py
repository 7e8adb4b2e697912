"""Count what a model costs: parameters, multiply-adds and bytes of activations, by stage and by kind of part."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hexavit.cli._parser import Parser, add_json, add_overrides


def add_arguments(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", type=str, help="a name that `hexavit list` gives")
    parser.add_argument("--img-size", type=int, nargs=2, metavar=("H", "W"), default=None, help="in pixels")
    add_overrides(parser)
    add_json(parser)


def run(parser: Parser, arguments: Sequence[str]) -> None:
    asked = parser.parse_args(arguments)

    import hexavit

    size = None if asked.img_size is None else tuple(asked.img_size)
    found = hexavit.profile(hexavit.create_model(asked.model, img_size=size, overrides=asked.overrides))
    print(json.dumps(found.as_dict(), indent=2) if asked.json else found.table())
