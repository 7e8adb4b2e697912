"""Show a model as a table of six columns with its figures and weights; or how two models differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from shutil import get_terminal_size
from typing import TYPE_CHECKING

from hexavit.cli._parser import Parser, add_json, add_overrides

if TYPE_CHECKING:
    from hexavit.architecture import Architecture


def add_arguments(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", type=str, help="a name that `hexavit list` gives")
    parser.add_argument("other", metavar="OTHER", nargs="?", type=str, default=None, help="another, to compare with")
    add_overrides(parser)
    add_json(parser)


def run(parser: Parser, arguments: Sequence[str]) -> None:
    asked = parser.parse_args(arguments)

    import hexavit
    from hexavit.models import model_entry

    if asked.other is not None:
        _compare(asked.model, asked.other, asked.overrides, asked.json)
        return
    entry = model_entry(asked.model)
    model = hexavit.create_model(asked.model, overrides=asked.overrides)
    architecture, counted = model.architecture, hexavit.profile(model)
    if asked.json:
        figures = {
            "counted": {"parameters": counted.parameters, "macs": counted.macs, "img_size": architecture.img_size},
            "published": [asdict(figure) for figure in entry.published],
            "weights": [asdict(weight) for weight in entry.weights],
        }
        print(json.dumps({"architecture": json.loads(architecture.to_json()), **figures}, indent=2))
        return
    height, width = architecture.img_size
    print(f"{architecture.name}: {entry.summary}\n{entry.paper}\n\n{_fitting(architecture)}\n")
    rows = [
        ("", "pixels", "parameters", "multiply-adds", "top-1", ""),
        ("counted", f"{height} x {width}", _short(counted.parameters, "#.4g"), _short(counted.macs, "#.4g"), "", ""),
    ]
    for told in entry.published:
        params, macs = (
            None if value is None else value * unit for value, unit in ((told.params_m, 1e6), (told.gflops, 1e9))
        )
        top1 = "–" if told.top1 is None else f"{told.top1:.1%}"
        source = f"{told.trained_on}; {told.source}"
        rows.append(("published", f"{told.img_size} x {told.img_size}", _short(params), _short(macs), top1, source))
    for row in rows:
        print("{:<12}{:>10}{:>13}{:>16}{:>9}  {}".format(*row).rstrip())
    for weight in entry.weights:
        data = ", then ".join(weight.trained_on)
        print(f"{'weights':<12}{entry.architecture.name}.{weight.tag}: {weight.license}; {data}; {weight.place}")
    if asked.overrides and entry.published:
        print("\nThe published figures are those of the model before your edits.")


def _fitting(architecture: Architecture) -> str:
    """The six-column table; on a terminal that it does not fit, turned: a column a stage."""
    from hexavit.architecture import aligned

    table, room = architecture.table(), get_terminal_size((1000, 24)).columns
    if max(map(len, table.splitlines())) <= room:
        return table
    turned = [list(row) for row in zip(*architecture.rows(), strict=True)]
    first = max(len(row[0]) for row in turned)
    return aligned(turned, width=max(12, (room - first) // len(architecture.stages) - 2))


def _compare(model: str, other: str, overrides: Sequence[str], as_json: bool) -> None:
    """Edits are the first model's."""
    from hexavit.architecture.comparison import compare, comparison_table
    from hexavit.models import resolve

    one, two = resolve(model, overrides=overrides), resolve(other)
    if as_json:
        print(json.dumps([asdict(each) for each in compare(one, two)], indent=2))
    else:
        print(comparison_table(one, two))


def _short(value: float | None, digits: str = ".4g") -> str:
    """A large number with a unit: 4.566 G."""
    if value is None:
        return "–"
    unit, letter = next((each for each in ((1e9, "G"), (1e6, "M")) if value >= each[0]), (1e3, "k"))
    return f"{value / unit:{digits}} {letter}"
