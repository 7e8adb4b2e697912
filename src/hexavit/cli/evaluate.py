"""Judge a trained model on images whose classes are known: accuracy, calibration, and how each class fares."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from hexavit.cli._parser import Parser, add_json, add_run, open_run
from hexavit.data.source import OnBadImage
from hexavit.evaluation.evaluate import Among, Part, judge
from hexavit.files import check_ending


def add_arguments(parser: Parser) -> None:
    add_run(parser)
    parser.add_argument("--data", type=str, required=True, help="what `hexavit train --data` takes")
    parser.add_argument(
        "--part", type=Part, default="auto", help="of the data; by default test, else what the run held out, else all"
    )
    parser.add_argument("--workers", type=int, default=None, help="threads that decode images; by default chosen")
    parser.add_argument(
        "--among", type=Among, default="model", help="answer among all classes of the model, or those of the data alone"
    )
    parser.add_argument(
        "--on-bad-image", type=OnBadImage, default="error", help="error refuses what cannot be read, skip leaves it out"
    )
    parser.add_argument("--report", metavar="HTML", type=str, default=None, help="write figures and pictures there")
    add_json(parser)


def run(parser: Parser, arguments: Sequence[str]) -> None:
    asked = parser.parse_args(arguments)

    check_ending(asked.report, ".html", ".htm")
    judged = judge(
        open_run(asked),
        asked.data,
        part=asked.part,
        batch_size=asked.batch_size,
        workers=asked.workers,
        device=asked.device,
        among=asked.among,
        on_bad_image=asked.on_bad_image,
    )
    if asked.report is not None:
        from hexavit.evaluation.html_report import write_report

        write_report(judged, asked.report)
    found = judged.evaluation
    for reason in found.skipped.values():
        print(f"not read: {reason}", file=sys.stderr)
    for name, count in found.left_out.items():
        print(f"left out: {count} images of {name}, a class that the model has not", file=sys.stderr)
    if asked.json:
        print(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
        return
    print(f"{found.data} ({found.part}), {found.weights} weights: {found.count} images")
    low, high = found.interval
    print(f"accuracy  {found.accuracy:.2%}, in a bootstrap {low:.2%} to {high:.2%} (95 %)")
    if found.top5 is not None:
        print(f"top-5     {found.top5:.2%}")
    print(f"loss      {found.loss:.4f}")
    print(f"ECE       {found.ece:.2%}")
    print(f"F1        {found.macro_f1:.2%}, mean over classes\n")
    width = max(5, *(len(each.name) for each in found.per_class))
    print(f"{'class':<{width}}  images  precision    recall        F1")
    for each in found.per_class:
        precision = "–" if each.precision is None else f"{each.precision:.2%}"
        print(f"{each.name:<{width}}  {each.count:>6}  {precision:>9}  {each.recall:>8.2%}  {each.f1:>8.2%}")
