"""Train a small CvT on scikit-learn's handwritten digits, predict some that it has not seen, and say what to try."""

from __future__ import annotations

from collections.abc import Sequence

from hexavit.cli._parser import Parser


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--out", type=str, default=None, help="the run folder; by default runs/demo, or the next free")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in --out")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order, augmentation and dropout")


def run(parser: Parser, arguments: Sequence[str]) -> None:
    asked = parser.parse_args(arguments)

    from dataclasses import replace

    from hexavit.training.demo import RECIPE, demo

    demo(asked.out, config=replace(RECIPE, seed=asked.seed), overwrite=asked.overwrite)
