"""Predict the classes of image files, and of the images in folders, with a trained model."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from hexavit.cli._parser import Parser, UsageError, add_run, open_run
from hexavit.errors import DataError
from hexavit.inference.formats import Format, Rows, format_of


def add_arguments(parser: Parser) -> None:
    add_run(parser)
    parser.add_argument(
        "images",
        metavar="IMAGES",
        nargs="+",
        type=str,
        help="image files, folders of such, patterns in quotes ('photos/**/*.jpg'), or - for a list on standard input",
    )
    parser.add_argument("--top", type=int, default=3, help="how many classes to give for an image")
    parser.add_argument("--format", type=Format, default=None, help="table (the default), csv or jsonl")
    parser.add_argument("--json", action="store_true", help="the same as --format jsonl: an object a line")
    parser.add_argument("--out", metavar="FILE", type=str, default=None, help="write there; .csv and .jsonl say how")
    parser.add_argument(
        "--features", metavar="FILE", type=str, default=None, help="the vectors before the classifier: .npy or .parquet"
    )
    parser.add_argument("--threads", type=int, default=None, help="threads that decode images; by default one a core")
    parser.add_argument("-0", "--null", action="store_true", help="NUL, not lines, parts the list of -; else found out")


def run(parser: Parser, arguments: Sequence[str]) -> None:
    asked = parser.parse_args(arguments)
    if asked.json and asked.format not in {None, "jsonl"}:
        raise UsageError(f"--json and --format {asked.format} contradict each other")

    from hexavit.inference import predict
    from hexavit.inference.features import check_features_file

    if asked.features is not None:
        check_features_file(Path(asked.features))
    ending = format_of(Path(asked.out)) if asked.out else "table"
    kind: Format = "jsonl" if asked.json else asked.format or ending
    ready = open_run(asked, headless=asked.features is not None)
    images = _images(asked.images, asked.null)
    broken: list[DataError] = []

    def note(error: DataError) -> None:
        broken.append(error)
        print(f"error: {error}", file=sys.stderr)

    predictions = predict(
        ready,
        images,
        top=asked.top,
        batch_size=asked.batch_size,
        device=asked.device,
        threads=asked.threads,
        features=asked.features is not None,
        refuse=note,
    )
    with ExitStack() as files:
        count = _write(asked, kind, predictions, files)
    if broken:
        told = f"{len(broken)} of {count + len(broken)} images could not be read; the others are done"
        print(f"error: {told if count else 'no image could be read'}", file=sys.stderr)
        raise SystemExit(1)
    if not count:
        raise DataError("the list on the standard input names no image")


def _images(given: Sequence[str], by_null: bool) -> Iterator[str | Path]:
    """What is named on the command line, looked at now; and what a list names, when its turn comes."""
    from hexavit.images.listing import checked, read_list

    if given.count("-") > 1 or (by_null and "-" not in given):
        raise UsageError("- stands for the list on the standard input, once; --null says how its paths are parted")
    named = iter(checked([each for each in given if each != "-"]))
    parts: list[Iterator[str | Path]] = []
    for each in given:
        parts.append(read_list(sys.stdin.buffer, by_null=by_null or None) if each == "-" else iter([next(named)]))
    return chain.from_iterable(parts)


def _write(asked: Any, kind: Format, predictions: Iterator[Any], files: ExitStack) -> int:
    """Write each prediction as it comes; the files take their place when all is done."""
    from hexavit.files import replacing
    from hexavit.inference.features import FeatureFile

    out: TextIO = sys.stdout
    if asked.out is not None:
        place = files.enter_context(replacing(Path(asked.out)))
        out = files.enter_context(place.open("w", encoding="utf-8", errors="backslashreplace", newline=""))
    vectors = None
    if asked.features is not None:
        path = Path(asked.features)
        names = path.with_name(path.name + ".txt") if path.suffix.lower() == ".npy" else None
        places = [files.enter_context(replacing(each)) for each in (path, names) if each is not None]
        vectors = files.enter_context(FeatureFile(places[0], path.suffix, *places[1:]))
    rows = Rows(kind, out)
    count = 0
    for found in predictions:
        count += 1
        _print(partial(rows.write, found), goes_on=vectors is not None)
        if vectors is not None:
            vectors.write(found.image, found.features)
    _print(rows.close, goes_on=vectors is not None)
    return count


def _print(write: Callable[[], None], *, goes_on: bool) -> None:
    """Write; when the reader has seen enough (`head`), the features still want to be whole."""
    try:
        write()
    except BrokenPipeError:
        if not goes_on:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
