"""Compare the runs in and below a folder: settings that differ, accuracies, cost, curves; the best first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from hexavit.cli._parser import Parser, UsageError, add_json


def add_arguments(parser: Parser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=str, help="where `hexavit train` left runs, such as runs")
    parser.add_argument("--csv", action="store_true", help="print CSV, for a spreadsheet")
    parser.add_argument("--plot", metavar="PNG", type=str, default=None, help="draw the curves of all in one picture")
    add_json(parser)


def run(parser: Parser, arguments: Sequence[str]) -> None:
    asked = parser.parse_args(arguments)
    if asked.csv and asked.json:
        raise UsageError("--csv and --json are two forms of the same: give one of them")

    from hexavit.files import check_ending
    from hexavit.runs.compare import as_csv, as_records, as_table, find_runs

    check_ending(asked.plot, ".png")
    found = find_runs(asked.folder)
    if asked.plot is not None:
        from hexavit.runs.curves import draw_runs

        draw_runs({each.name: each.history for each in found}, Path(asked.plot))
    if asked.json:
        print(json.dumps(as_records(found), indent=2, ensure_ascii=False))
    elif asked.csv:
        print(as_csv(found), end="")
    else:
        from rich.console import Console

        console = Console()
        table = as_table(found, console.width) if console.is_terminal else as_table(found)
        if not console.is_terminal:  # a file is as wide as need be
            console = Console(width=Console(width=10_000).measure(table).maximum)
        console.print(table)
