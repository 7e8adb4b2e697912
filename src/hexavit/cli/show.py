"""Show a model as a table of six columns, with its cost and published figures; or compare two models."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import asdict
from shutil import get_terminal_size
from typing import TYPE_CHECKING

from hexavit.cli._format import align, short
from hexavit.cli._parser import MODEL, Parser, add_json, add_overrides, architecture_of

if TYPE_CHECKING:
    from hexavit.architecture import Architecture
    from hexavit.models import Entry


def add_arguments(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("other", metavar="OTHER", nargs="?", help="second model, to compare the first with")
    add_overrides(parser)
    add_json(parser)


def run(args: Namespace) -> None:
    import hexavit
    from hexavit.models import list_models, model_entry

    architecture = architecture_of(args.model, overrides=args.overrides)
    if args.other is not None:
        _compare(architecture, architecture_of(args.other), args.json)
        return
    named = args.model.partition(".")[0] in list_models()
    entry = model_entry(args.model) if named else None
    counted = hexavit.profile(architecture)
    if args.json:
        figures = {
            "counted": {"parameters": counted.parameters, "macs": counted.macs, "img_size": architecture.img_size},
            "published": [asdict(figure) for figure in entry.published] if entry else [],
            "weights": [asdict(weight) for weight in entry.weights] if entry else [],
        }
        print(json.dumps({"architecture": json.loads(architecture.to_json()), **figures}, indent=2))
        return
    print(f"{architecture.name}: {entry.summary}\n{entry.paper}\n" if entry else f"{args.model}: {architecture.name}\n")
    height, width = architecture.img_size
    cost = (short(counted.parameters, "#.4g"), short(counted.macs, "#.4g"))
    rows = [
        ("", "pixels", "parameters", "multiply-adds", "top-1", ""),
        ("counted", f"{height} x {width}", *cost, "", ""),
        *(_published(entry) if entry else []),
    ]
    print(f"{_fit_terminal(architecture)}\n")
    for row in rows:
        print("{:<12}{:>10}{:>13}{:>16}{:>9}  {}".format(*row).rstrip())
    for weight in entry.weights if entry else ():
        data = ", then ".join(weight.trained_on)
        print(f"{'weights':<12}{architecture.name}.{weight.tag}: {weight.license}; {data}; {weight.place}")
    if args.overrides and entry and entry.published:
        print("\nThe published figures are for the model without your overrides.")


def _published(entry: Entry) -> list[tuple[str, ...]]:
    """A row for each published figure."""
    rows: list[tuple[str, ...]] = []
    for figure in entry.published:
        params = None if figure.params_m is None else figure.params_m * 1e6
        macs = None if figure.gflops is None else figure.gflops * 1e9
        top1 = "–" if figure.top1 is None else f"{figure.top1:.1%}"
        size, source = f"{figure.img_size} x {figure.img_size}", f"{figure.trained_on}; {figure.source}"
        rows.append(("published", size, short(params), short(macs), top1, source))
    return rows


def _fit_terminal(architecture: Architecture) -> str:
    """The six-column table; transposed if it is wider than the terminal, with one column per stage."""
    from hexavit.architecture import aligned

    table, available = architecture.table(), get_terminal_size((1000, 24)).columns
    if max(map(len, table.splitlines())) <= available:
        return table
    transposed = [list(row) for row in zip(*architecture.rows(), strict=True)]
    first = max(len(row[0]) for row in transposed)
    return aligned(transposed, width=max(12, (available - first) // len(architecture.stages) - 2))


def _compare(one: Architecture, two: Architecture, as_json: bool) -> None:
    """Print the differences of two architectures, and of their cost at their own image sizes."""
    from hexavit.architecture.comparison import compare, comparison_table

    rows = [] if one == two else _cost(one, two)
    if as_json:
        cost = [{"column": "cost", "path": name, "here": a, "there": b, "difference": b / a - 1} for name, a, b in rows]
        print(json.dumps([*map(asdict, compare(one, two)), *cost], indent=2))
        return
    print(comparison_table(one, two))
    if not rows:
        return
    sizes = [f"{height} x {width}" for height, width in (one.img_size, two.img_size)]
    table = [
        ["cost", one.name, two.name, "difference"],
        *([name, short(a, "#.4g"), short(b, "#.4g"), f"{b / a - 1:+.1%}"] for name, a, b in rows),
        ["image size", *sizes, ""],
    ]
    print(f"\n{align(table)}")


def _cost(one: Architecture, two: Architecture) -> list[tuple[str, int, int]]:
    """The names of three figures, and their values for both architectures."""
    import hexavit

    first, second = hexavit.profile(one), hexavit.profile(two)
    return [
        ("parameters", first.parameters, second.parameters),
        ("multiply-adds", first.macs, second.macs),
        ("activation bytes", first.total.activation_bytes, second.total.activation_bytes),
    ]
