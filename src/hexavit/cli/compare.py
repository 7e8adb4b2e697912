"""Compare models, or variants of one, without training: cost by stage and kind of part, published accuracy, and with
--sizes speed, memory and how time grows with the image, measured side by side on this machine."""

from __future__ import annotations

import itertools
import json
from argparse import Namespace
from pathlib import Path

from hexavit.cli._parser import Parser, UsageError, add_json, add_overwrite, check_output


def add_arguments(parser: Parser) -> None:
    parser.add_argument("models", metavar="MODEL", nargs="+", help="model names, as in `hexavit list`")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="PATH=VALUE[,VALUE...]",
        help="values to cross for each model, such as stages.*.attention.stride_kv=1,2; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--sizes", type=str, default=None, metavar="SIDE[,SIDE...]",
        help="sides of square images at which speed and memory are measured, such as 224,384",
    )  # fmt: skip
    parser.add_argument("--batch-size", type=int, default=8, help="images in one forward pass")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the measurement")
    parser.add_argument("--plot", metavar="PNG", default=None, help="draw cost by part, and time by size, to this file")
    add_overwrite(parser, "the file of --plot")
    add_json(parser)


def run(args: Namespace) -> None:
    from hexavit.files import replacing
    from hexavit.studies.comparison import compare, draw, machine, table
    from hexavit.studies.definition import sweep

    if args.batch_size < 1 or args.rounds < 1:
        raise UsageError("--batch-size and --rounds are at least 1")
    check_output(args.plot, ".png", overwrite=args.overwrite)
    sizes = _sizes(args.sizes)
    axes = sweep(args.overrides)
    edits = [
        [f"{path}={value}" for path, value in zip(axes, values, strict=True)]
        for values in itertools.product(*axes.values())
    ]
    found = compare(args.models, edits, sizes=sizes, batch_size=args.batch_size, rounds=args.rounds)
    if args.plot is not None:
        with replacing(Path(args.plot)) as temporary:
            temporary.write_bytes(draw(found))
    if args.json:
        models = [each.as_dict() for each in found]
        print(json.dumps({"processor": machine() if sizes else None, "models": models}, indent=2, ensure_ascii=False))
        return
    rows = table(found)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (f"{c:>{w}}" if i else f"{c:<{w}}" for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        print("  ".join(cells).rstrip())
    if sizes:
        print(f"\nmeasured on {machine()}, float32, {args.batch_size} images at once, random weights")
    for each in found:
        if each.source:
            print(f"{each.name}: top-1 of {each.source}")


def _sizes(text: str | None) -> list[int]:
    words = [] if text is None else text.split(",")
    if not all(word.isdigit() and int(word) > 0 for word in words):
        raise UsageError(f"--sizes takes whole numbers with commas between them, such as 224,384, not {text!r}")
    return [int(word) for word in words]
