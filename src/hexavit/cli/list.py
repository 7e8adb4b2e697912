"""List the models there are, or those whose name, parts or published weights fit."""

from __future__ import annotations

import json
import re
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
    for what, unit in (("params", "parameters"), ("macs", "multiply-adds at the model's own size")):
        parser.add_argument(
            f"--max-{what}", metavar="NUMBER", type=str, default=None, help=f"with no more {unit}, such as 10M or 2G"
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
    names, most = _cheap(names, asked.max_params, asked.max_macs)
    if asked.weights:
        kept = set(names)
        names = [each for each in hexavit.list_weights(asked.pattern, **filters) if each.partition(".")[0] in kept]
    if not names:
        if of_models or most:
            asked_for = ", ".join([*(f"{key}={value}" for key, value in of_models.items()), *most])
            raise HexavitError(f"no model {asked.pattern!r} has {asked_for}: leave a filter out")
        if filters or asked.weights:
            raise HexavitError(f"no model {asked.pattern!r} has such published weights: leave a filter out")
        raise HexavitError(f"no model is named {asked.pattern!r}: {nearest(asked.pattern, hexavit.list_models())}")
    print(json.dumps(names, indent=2) if asked.json else "\n".join(names))


def _cheap(names: list[str], max_params: str | None, max_macs: str | None) -> tuple[list[str], list[str]]:
    """Those of the models that cost no more, and what was asked for in words."""
    limits = {"max-params": max_params, "max-macs": max_macs}
    most = {key: _number(key, value) if value is not None else float("inf") for key, value in limits.items()}
    words = [f"{key}={value}" for key, value in limits.items() if value is not None]
    if not words:
        return names, words
    from hexavit.profiling import costs

    counted = costs(names)
    return [n for n in names if all(c <= m for c, m in zip(counted[n], most.values(), strict=True))], words


def _number(key: str, text: str) -> float:
    """10M, 2.5G, 300k or a plain number."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kMG]?)", text)
    if found is None:
        raise HexavitError(f"--{key} is a number, plain or with k, M or G behind it such as 10M, not {text!r}")
    return float(found[1]) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[found[2]]
