"""Train a small CvT on scikit-learn's handwritten digits, predict validation images, and print what to try next."""

from __future__ import annotations

from argparse import Namespace

from hexavit.cli._parser import Parser, add_overwrite


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--out", metavar="FOLDER", help="run folder; by default runs/demo, or the next free name")
    add_overwrite(parser, "the run in --out")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, order, augmentation and dropout")


def run(args: Namespace) -> None:
    from dataclasses import replace

    from hexavit.training.demo import RECIPE, demo

    demo(args.out, config=replace(RECIPE, seed=args.seed), overwrite=args.overwrite)
