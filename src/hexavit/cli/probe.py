"""Judge frozen features: k nearest neighbours and a linear classifier on them, fitted to the training images."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from hexavit.cli._parser import Parser, add_json, add_run, open_run
from hexavit.data.source import OnBadImage
from hexavit.evaluation.probing import Fitted, HeldOut, probe


def add_arguments(parser: Parser) -> None:
    add_run(parser)
    parser.add_argument("--data", type=str, required=True, help="what `hexavit train --data` takes")
    parser.add_argument("--part", type=HeldOut, default="auto", help="to judge on; by default test, else val")
    parser.add_argument("--k", type=int, default=None, help="neighbours; by default chosen by cross-validation")
    parser.add_argument("--c", type=float, default=None, help="C of the logistic regression; by default chosen so too")
    parser.add_argument("--cache", metavar="NPZ", type=str, default=None, help="keep the features there, and use them")
    parser.add_argument("--val-fraction", type=float, default=0.2, help="held out, where neither data nor run says")
    parser.add_argument("--split-seed", type=int, default=0, help="seed of that split")
    parser.add_argument("--workers", type=int, default=None, help="threads that decode images; by default chosen")
    parser.add_argument(
        "--on-bad-image", type=OnBadImage, default="error", help="error refuses what cannot be read, skip leaves it out"
    )
    add_json(parser)


def run(parser: Parser, arguments: Sequence[str]) -> None:
    asked = parser.parse_args(arguments)
    found = probe(
        open_run(asked, headless=True),
        asked.data,
        part=asked.part,
        k=asked.k,
        c=asked.c,
        val_fraction=asked.val_fraction,
        split_seed=asked.split_seed,
        batch_size=asked.batch_size,
        workers=asked.workers,
        device=asked.device,
        on_bad_image=asked.on_bad_image,
        cache=asked.cache,
    )
    for reason in found.skipped.values():
        print(f"not read: {reason}", file=sys.stderr)
    if asked.json:
        print(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
        return
    print(
        f"{found.data}: {found.train_images} images fitted to, {found.held_out_images} held out ({found.part}); "
        f"{found.dimension} features, {found.weights} weights\n"
    )
    print(f"{'':<8}{'top-1':>8}{'top-5':>9}   setting")
    _show("k-NN", "k", found.knn)
    _show("linear", "C", found.linear)


def _show(name: str, setting: str, found: Fitted) -> None:
    top5 = "–" if found.top5 is None else f"{found.top5:.2%}"
    how = f"{found.chosen}, {found.folds:.2%} there" if found.folds is not None else found.chosen
    rest = "" if found.converged else "; its optimiser did not come to rest"
    print(f"{name:<8}{found.accuracy:>8.2%}{top5:>9}   {setting} = {found.setting:g} ({how}{rest})")
