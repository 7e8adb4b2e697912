"""Judge a trained model on images whose classes are known: accuracy, loss, and the accuracy of each class."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hexavit.cli._parser import Parser, add_json, add_run, open_run
from hexavit.training.evaluation import Part, evaluate


def add_arguments(parser: Parser) -> None:
    add_run(parser)
    parser.add_argument("--data", type=str, required=True, help="`digits`, or a folder of class folders")
    parser.add_argument(
        "--part", type=Part, default="auto", help="of the data; by default test, else what the run held out, else all"
    )
    parser.add_argument("--workers", type=int, default=None, help="processes that read images; by default chosen")
    add_json(parser)


def run(parser: Parser, arguments: Sequence[str]) -> None:
    asked = parser.parse_args(arguments)

    found = evaluate(
        open_run(asked),
        asked.data,
        part=asked.part,
        batch_size=asked.batch_size,
        workers=asked.workers,
        device=asked.device,
    )
    if asked.json:
        print(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
        return
    print(f"{found.data} ({found.part}), {found.weights} weights: {found.count} images")
    print(f"accuracy  {found.accuracy:.2%}")
    if found.top5 is not None:
        print(f"top-5     {found.top5:.2%}")
    print(f"loss      {found.loss:.4f}\n")
    width = max(5, *(len(each.name) for each in found.per_class))
    print(f"{'class':<{width}}  images  accuracy")
    for each in found.per_class:
        print(f"{each.name:<{width}}  {each.count:>6}  {each.accuracy:>8.2%}")
