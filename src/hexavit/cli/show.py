"""Show a model as a table of six columns, one row a stage, with its figures as counted and as published."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from hexavit.cli._parser import Parser, add_json, add_overrides


def add_arguments(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", type=str, help="a name that `hexavit list` gives")
    add_overrides(parser)
    add_json(parser)


def run(parser: Parser, arguments: Sequence[str]) -> None:
    asked = parser.parse_args(arguments)

    import hexavit
    from hexavit.models import model_entry

    entry = model_entry(asked.model)
    model = hexavit.create_model(asked.model, overrides=asked.overrides)
    architecture, counted = model.architecture, hexavit.profile(model)
    if asked.json:
        figures = {
            "counted": {"parameters": counted.parameters, "macs": counted.macs, "img_size": architecture.img_size},
            "published": [asdict(figure) for figure in entry.published],
        }
        print(json.dumps({"architecture": json.loads(architecture.to_json()), **figures}, indent=2))
        return
    height, width = architecture.img_size
    print(f"{architecture.name}: {entry.summary}\n{entry.paper}\n\n{architecture.table()}\n")
    row = "{:<12}{:>10}{:>14}{:>17}{:>9}  {}".format
    print(row("", "pixels", "parameters", "multiply-adds", "top-1", ""))
    counts = (f"{counted.parameters / 1e6:.2f} M", f"{counted.macs / 1e9:.3f} G")
    print(row("counted", f"{height} x {width}", *counts, "", "edited" if asked.overrides else "").rstrip())
    for told in entry.published:
        figures_told = (_with_unit(told.params_m, "M"), _with_unit(told.gflops, "G"))
        top1 = "–" if told.top1 is None else f"{told.top1:.1%}"
        print(
            row(
                "published",
                f"{told.img_size} x {told.img_size}",
                *figures_told,
                top1,
                f"{told.trained_on}; {told.source}",
            )
        )


def _with_unit(value: float | None, unit: str) -> str:
    return "–" if value is None else f"{value:g} {unit}"
