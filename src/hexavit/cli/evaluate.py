"""Evaluate a trained model on labelled images: accuracy, calibration, and precision and recall of each class.

For example: hexavit evaluate runs/flowers --data flowers; or flowers.onnx in place of the run.
"""

from __future__ import annotations

import json
import sys
import warnings
from argparse import Namespace

from hexavit.cli._parser import (
    Parser,
    add_json,
    add_labelled_data,
    add_model_source,
    add_optimize,
    add_overwrite,
    check_output,
    load_model_or_file,
    note,
)
from hexavit.evaluation.evaluate import Among, TrainingImagesWarning, evaluate_with_predictions
from hexavit.evaluation.run_split import Part


def add_arguments(parser: Parser) -> None:
    add_model_source(parser)
    add_optimize(parser)
    add_labelled_data(parser, Part, "split to evaluate; by default test, else the run's validation images, else all")
    parser.add_argument(
        "--among", type=Among, default="model", help="classes to predict among: all of the model, or those of the data"
    )
    parser.add_argument("--report", metavar="HTML", help="write figures and plots to this file")
    add_overwrite(parser, "the file of --report")
    add_json(parser)


def run(args: Namespace) -> None:
    check_output(args.report, ".html", ".htm", overwrite=args.overwrite)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingImagesWarning)  # printed below
        result = evaluate_with_predictions(
            load_model_or_file(args),
            args.data,
            part=args.part,
            batch_size=args.batch_size,
            workers=args.workers,
            device=args.device,
            among=args.among,
            on_bad_image=args.on_bad_image,
            optimize=args.optimize,
            engine=args.engine,
            notify=note,
        )
    if args.report is not None:
        from hexavit.evaluation.html_report import write_report

        write_report(result, args.report)
    found = result.evaluation
    for sentence in found.notes:
        print(f"{'warning' if found.training_images else 'note'}: {sentence}", file=sys.stderr)
    for reason in found.skipped.values():
        print(f"not read: {reason}", file=sys.stderr)
    for name, count in found.left_out.items():
        print(f"left out: {count} images of {name}, which is not a class of the model", file=sys.stderr)
    if args.json:
        print(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
        return
    print(f"{found.data} ({found.part}), {found.weights} weights: {found.count} images")
    low, high = found.interval
    if found.mean_average_precision is not None:
        print(f"mAP       {found.mean_average_precision:.2%}, mean over classes")
    exact = ", all classes of an image right" if found.mean_average_precision is not None else ""
    print(f"accuracy  {found.accuracy:.2%} (95 % CI {100 * low:.2f}-{100 * high:.2f} %){exact}")
    if found.top5 is not None:
        print(f"top-5     {found.top5:.2%}")
    print(f"loss      {found.loss:.4f}")
    print(f"ECE       {found.ece:.2%}")
    overall = "" if found.micro_f1 is None else f"; {found.micro_f1:.2%} over all classes of all images"
    print(f"F1        {found.macro_f1:.2%}, mean over classes{overall}\n")
    width = max(5, *(len(each.name) for each in found.per_class))
    print(f"{'class':<{width}}  images  precision    recall        F1{'' if not overall else '        AP  threshold'}")
    for each in found.per_class:
        precision = "–" if each.precision is None else f"{each.precision:.2%}"
        more = "" if each.average_precision is None else f"  {each.average_precision:>8.2%}  {each.threshold:>9.3f}"
        print(f"{each.name:<{width}}  {each.count:>6}  {precision:>9}  {each.recall:>8.2%}  {each.f1:>8.2%}{more}")
