"""Compare the runs in a folder and its subfolders: settings that differ, accuracy, cost and curves, best first."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

from hexavit.cli._parser import Parser, UsageError, add_json, add_overwrite, check_output


def add_arguments(parser: Parser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="folder with runs of `hexavit train`, such as runs")
    parser.add_argument("--csv", action="store_true", help="print CSV")
    parser.add_argument("--plot", metavar="PNG", help="draw the learning curves of all runs to this file")
    add_overwrite(parser, "the file of --plot")
    add_json(parser)


def run(args: Namespace) -> None:
    if args.csv and args.json:
        raise UsageError("--csv and --json exclude each other: give one of them")

    from hexavit.runs.compare import as_csv, as_records, as_tables, find_runs

    check_output(args.plot, ".png", overwrite=args.overwrite)
    found = find_runs(args.folder)
    if args.plot is not None:
        from hexavit.runs.curves import draw_runs

        draw_runs({each.name: each.history for each in found}, Path(args.plot))
    if args.json:
        print(json.dumps(as_records(found), indent=2, ensure_ascii=False))
    elif args.csv:
        print(as_csv(found), end="")
    else:
        from rich.console import Console

        console = Console()
        for table in as_tables(found, console.width) if console.is_terminal else as_tables(found):
            if not console.is_terminal:  # do not wrap in a file or pipe
                console = Console(width=Console(width=10_000).measure(table).maximum)
            console.print(table)
