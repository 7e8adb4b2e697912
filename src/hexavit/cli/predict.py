"""Predict the classes of image files, and of all images in folders, with a trained model.

For example: hexavit predict runs/flowers photos --out predictions.csv; or flowers.onnx in place of the run.
"""

from __future__ import annotations

import os
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from hexavit.cli._parser import (
    Parser,
    UsageError,
    add_model_source,
    add_optimize,
    add_overwrite,
    check_output,
    load_model_or_file,
    note,
)
from hexavit.errors import DataError
from hexavit.inference.formats import Format, Rows, format_of


def add_arguments(parser: Parser) -> None:
    add_model_source(parser)
    add_optimize(parser)
    parser.add_argument(
        "images",
        metavar="IMAGES",
        nargs="+",
        help="image files, folders, quoted patterns such as 'photos/**/*.jpg', or - for a list of paths on standard "
        "input",
    )
    parser.add_argument("--top", type=int, default=3, help="number of classes to print per image")
    parser.add_argument("--format", type=Format, help="output format; by default from the suffix of --out, else table")
    parser.add_argument("--json", action="store_true", help="same as --format jsonl: one JSON object per line")
    parser.add_argument("--out", metavar="FILE", help="write the predictions to this file, such as a .csv or .jsonl")
    parser.add_argument(
        "--features", metavar="FILE", help="also write the features before the classifier, as .npy or .parquet"
    )
    add_overwrite(parser, "the files of --out and --features")
    parser.add_argument("--threads", type=int, metavar="N", help="threads that decode images; by default one per core")
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help="predict every Nth image from the Ith on, such as 1/4: the N jobs of an array share a list, and each "
        "writes an --out of its own",
    )
    parser.add_argument(
        "-0", "--null", action="store_true", help="paths on standard input end in NUL; by default detected"
    )


def run(args: Namespace) -> None:
    if args.json and args.format not in {None, "jsonl"}:
        raise UsageError(f"--json and --format {args.format} contradict each other")

    shard = _shard(args.shard)

    from hexavit.inference import predict
    from hexavit.inference.features import check_features_file

    if args.features is not None:
        check_features_file(Path(args.features))
    ending = format_of(Path(args.out)) if args.out else "table"
    for path in (args.out, args.features):
        check_output(path, overwrite=args.overwrite)
    kind: Format = "jsonl" if args.json else args.format or ending
    loaded = load_model_or_file(args, headless=args.features is not None)
    images = _images(args.images, args.null)
    broken: list[DataError] = []

    def report(error: DataError) -> None:
        broken.append(error)
        print(f"error: {error}", file=sys.stderr)

    predictions = predict(
        loaded,
        images,
        top=args.top,
        batch_size=args.batch_size,
        device=args.device,
        threads=args.threads,
        features=args.features is not None,
        on_error=report,
        optimize=args.optimize,
        engine=args.engine,
        shard=shard,
        notify=note,
    )
    with ExitStack() as files:
        count = _write(args, kind, predictions, files)
    if broken:
        summary = f"{len(broken)} of {count + len(broken)} images could not be read; the others are done"
        print(f"error: {summary if count else 'no image could be read'}", file=sys.stderr)
        raise SystemExit(1)
    if not count and shard is not None:
        note(f"shard {args.shard} has no image; the list is shorter")
    elif not count:
        raise DataError("the list on standard input names no image")


def _shard(text: str | None) -> tuple[int, int] | None:
    """The numbers of ``I/N``."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(f"--shard takes I/N with I from 1 to N, such as 1/4, not {text!r}")
    return int(found[1]), int(found[2])


def _images(given: Sequence[str], by_null: bool) -> Iterator[str | Path]:
    """Paths of the images: those on the command line are checked now, those of a list when they are read."""
    from hexavit.images.listing import checked, read_list

    if given.count("-") > 1 or (by_null and "-" not in given):
        raise UsageError("- means the list of paths on standard input and may be given once; --null needs it")
    named = iter(checked([each for each in given if each != "-"]))
    parts: list[Iterator[str | Path]] = []
    for each in given:
        parts.append(read_list(sys.stdin.buffer, by_null=by_null or None) if each == "-" else iter([next(named)]))
    return chain.from_iterable(parts)


def _write(args: Namespace, kind: Format, predictions: Iterator[Any], files: ExitStack) -> int:
    """Write each prediction as it comes; output files are renamed into place at the end."""
    from hexavit.files import replacing
    from hexavit.inference.features import FeatureFile

    out: TextIO = sys.stdout
    if args.out is not None:
        place = files.enter_context(replacing(Path(args.out)))
        out = files.enter_context(place.open("w", encoding="utf-8", errors="backslashreplace", newline=""))
    vectors = None
    if args.features is not None:
        path = Path(args.features)
        names = path.with_name(path.name + ".txt") if path.suffix.lower() == ".npy" else None
        places = [files.enter_context(replacing(each)) for each in (path, names) if each is not None]
        vectors = files.enter_context(FeatureFile(places[0], path.suffix, *places[1:]))
    rows = Rows(kind, out)
    count = 0
    for found in predictions:
        count += 1
        _print(partial(rows.write, found), keep_going=vectors is not None)
        if vectors is not None:
            vectors.write(found.image, found.features)
    _print(rows.close, keep_going=vectors is not None)
    return count


def _print(write: Callable[[], None], *, keep_going: bool) -> None:
    """Write; after a closed pipe (`| head`), continue only for the features file."""
    try:
        write()
    except BrokenPipeError:
        if not keep_going:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
