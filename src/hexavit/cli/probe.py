"""Evaluate frozen features: k nearest neighbours and a linear classifier, fitted to the training images.

For example: hexavit probe cvt_13.in1k --data flowers; or a file exported with --features in place of the model.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace

from hexavit.cli._parser import Parser, add_json, add_labelled_data, add_model_source, load_model_or_file, note
from hexavit.evaluation.probing import EvaluatedPart, Fitted, probe


def add_arguments(parser: Parser) -> None:
    add_model_source(parser)
    add_labelled_data(parser, EvaluatedPart, "split to evaluate; by default test, else val")
    parser.add_argument("--k", type=int, help="number of neighbours; by default chosen by cross-validation")
    parser.add_argument(
        "--c",
        type=float,
        help="inverse regularisation C of the linear classifier; by default chosen by cross-validation",
    )
    parser.add_argument("--cache", metavar="NPZ", help="file to keep the features in, and to read them from next time")
    parser.add_argument(
        "--val-fraction",
        type=float,
        default=None,
        help="share for validation, if neither the data nor the run defines a split; by default as in training",
    )
    parser.add_argument("--split-seed", type=int, default=0, help="seed of that split")
    add_json(parser)


def run(args: Namespace) -> None:
    found = probe(
        load_model_or_file(args, headless=True),
        args.data,
        part=args.part,
        k=args.k,
        c=args.c,
        val_fraction=args.val_fraction,
        split_seed=args.split_seed,
        batch_size=args.batch_size,
        workers=args.workers,
        device=args.device,
        on_bad_image=args.on_bad_image,
        cache=args.cache,
        engine=args.engine,
        notify=note,
    )
    for reason in found.skipped.values():
        print(f"not read: {reason}", file=sys.stderr)
    if args.json:
        print(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
        return
    print(
        f"{found.data}: fitted on {found.train_images} images, evaluated on {found.held_out_images} ({found.part}); "
        f"{found.dimension} features, {found.weights} weights\n"
    )
    print(f"{'':<8}{'top-1':>8}{'top-5':>9}   setting")
    _print_result("k-NN", "k", found.knn)
    _print_result("linear", "C", found.linear)


def _print_result(name: str, setting: str, found: Fitted) -> None:
    top5 = "–" if found.top5 is None else f"{found.top5:.2%}"
    how = f"{found.chosen}, {found.folds:.2%}" if found.folds is not None else found.chosen
    warning = "" if found.converged else "; the optimiser did not converge"
    print(f"{name:<8}{found.accuracy:>8.2%}{top5:>9}   {setting} = {found.setting:g} ({how}{warning})")
