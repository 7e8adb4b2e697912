"""List the models there are, or those whose name, parts or published weights fit."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hexavit.cli._parser import Parser, add_json
from hexavit.errors import HexavitError, nearest

FILTERS = ("tokens", "position", "attention", "feedforward", "residual", "head")


def add_arguments(parser: Parser) -> None:
    parser.add_argument("pattern", metavar="PATTERN", nargs="?", type=str, default="*", help="such as 'cvt_*'")
    parser.add_argument("--family", type=str, default=None, help="of one family, such as cait")
    for kind in FILTERS:
        parser.add_argument(
            f"--{kind}", metavar="PART", type=str, default=None, help=f"with this {kind} part in a stage"
        )
    parser.add_argument("--license", type=str, default=None, help="with published weights under it, such as apache-2.0")
    parser.add_argument("--trained-on", type=str, default=None, help="with weights that saw it, such as ImageNet-22k")
    parser.add_argument("--weights", action="store_true", help="list the weights, as MODEL.TAG, and not the models")
    add_json(parser)


def run(parser: Parser, arguments: Sequence[str]) -> None:
    asked = parser.parse_args(arguments)

    import hexavit

    of_weights = {"license": asked.license, "trained_on": asked.trained_on}
    filters = {key: value for key, value in of_weights.items() if value is not None}
    of_models = {key: getattr(asked, key) for key in ("family", *FILTERS) if getattr(asked, key) is not None}
    names = hexavit.list_models(asked.pattern, **filters, **of_models)
    if asked.weights:
        kept = set(names)
        names = [each for each in hexavit.list_weights(asked.pattern, **filters) if each.partition(".")[0] in kept]
    if not names:
        if of_models:
            asked_for = ", ".join(f"{key}={value}" for key, value in of_models.items())
            raise HexavitError(f"no model {asked.pattern!r} has {asked_for}: leave a filter out")
        if filters or asked.weights:
            raise HexavitError(f"no model {asked.pattern!r} has such published weights: leave a filter out")
        raise HexavitError(f"no model is named {asked.pattern!r}: {nearest(asked.pattern, hexavit.list_models())}")
    print(json.dumps(names, indent=2) if asked.json else "\n".join(names))
