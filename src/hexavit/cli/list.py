"""List the models, or those selected by name, parts, cost or published weights."""

from __future__ import annotations

import json
import re
import sys
from argparse import Namespace
from collections.abc import Sequence

from hexavit.cli._format import align, short
from hexavit.cli._parser import Parser, add_json
from hexavit.errors import HexavitError, nearest

FILTERS = ("tokens", "position", "attention", "feedforward", "residual", "head")


def add_arguments(parser: Parser) -> None:
    parser.add_argument("pattern", metavar="PATTERN", nargs="?", default="*", help="shell pattern, such as 'cvt_*'")
    parser.add_argument("--family", metavar="NAME", help="models of one family, such as cait")
    for kind in FILTERS:
        parser.add_argument(f"--{kind}", metavar="PART", help=f"models with this {kind} part in some stage")
    for name, unit in (("params", "parameters"), ("macs", "multiply-adds at the model's image size")):
        parser.add_argument(f"--max-{name}", metavar="NUMBER", help=f"models with at most so many {unit}, such as 10M")
    parser.add_argument("--license", metavar="NAME", help="models with published weights under this licence")
    parser.add_argument("--trained-on", metavar="DATA", help="models with weights trained on it, such as ImageNet-22k")
    parser.add_argument("--weights", action="store_true", help="list published weights as MODEL.TAG instead of models")
    parser.add_argument("--names", action="store_true", help="print names alone, as when the output is piped")
    add_json(parser)


def run(args: Namespace) -> None:
    import hexavit

    of_weights = {"license": args.license, "trained_on": args.trained_on}
    filters = {key: value for key, value in of_weights.items() if value is not None}
    of_models = {key: getattr(args, key) for key in ("family", *FILTERS) if getattr(args, key) is not None}
    names = hexavit.list_models(
        args.pattern.partition(".")[0] if args.weights else args.pattern, **filters, **of_models
    )
    names, limits = _within(names, args.max_params, args.max_macs)
    if args.weights:
        kept = set(names)
        names = [each for each in hexavit.list_weights(args.pattern, **filters) if each.partition(".")[0] in kept]
    if not names:
        if of_models or limits:
            given = ", ".join([*(f"{key}={value}" for key, value in of_models.items()), *limits])
            raise HexavitError(f"no model {args.pattern!r} has {given}: leave a filter out")
        if filters or args.weights:
            raise HexavitError(f"no model {args.pattern!r} has such published weights: leave a filter out")
        raise HexavitError(f"no model is named {args.pattern!r}: {nearest(args.pattern, hexavit.list_models())}")
    if args.json:
        print(json.dumps(names, indent=2))
    elif args.names or not sys.stdout.isatty():
        print("\n".join(names))
    else:
        print(align(_weight_rows(names) if args.weights else _model_rows(names)))


def _model_rows(names: Sequence[str]) -> list[list[str]]:
    """A header, then name, parameters, multiply-adds, image size and highest published top-1 of each model."""
    from hexavit.models import model_entry
    from hexavit.profiling import costs

    rows = [["model", "parameters", "multiply-adds", "pixels", "top-1"]]
    for name, (parameters, macs) in costs(names).items():
        entry = model_entry(name)
        side = entry.architecture.img_size[0]
        top1 = max((each.top1 for each in entry.published if each.top1 and each.img_size == side), default=None)
        rows.append(
            [name, short(parameters, "#.4g"), short(macs, "#.4g"), str(side), "–" if top1 is None else f"{top1:.1%}"]
        )
    return rows


def _weight_rows(names: Sequence[str]) -> list[list[str]]:
    """A header, then name, image size, published top-1, licence and training data of each set of weights."""
    from hexavit.models import find_weight

    rows = [["weights", "pixels", "top-1", "licence", "trained on"]]
    for name in names:
        weight = find_weight(name)
        assert weight is not None  # `list_weights` gave the name
        top1 = "–" if weight.top1 is None else f"{weight.top1:.1%}"
        rows.append([name, str(weight.img_size), top1, weight.license, ", then ".join(weight.trained_on)])
    return rows


def _within(names: list[str], max_params: str | None, max_macs: str | None) -> tuple[list[str], list[str]]:
    """The models within the limits, and the limits as text."""
    limits = {"max-params": max_params, "max-macs": max_macs}
    highest = {key: _number(key, value) if value is not None else float("inf") for key, value in limits.items()}
    words = [f"{key}={value}" for key, value in limits.items() if value is not None]
    if not words:
        return names, words
    from hexavit.profiling import costs

    counted = costs(names)
    return [n for n in names if all(c <= m for c, m in zip(counted[n], highest.values(), strict=True))], words


def _number(key: str, text: str) -> float:
    """10M, 2.5G, 300k or a plain number."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kMG]?)", text)
    if found is None:
        raise HexavitError(f"--{key} takes a number, plain or with the suffix k, M or G, such as 10M, not {text!r}")
    return float(found[1]) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[found[2]]
