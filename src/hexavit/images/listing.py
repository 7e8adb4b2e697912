"""Finding image files: from files, folders, patterns and lists of paths, one after the other."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from hexavit.errors import DataError
from hexavit.images.decode import EXTENSIONS, printable

OnError = Callable[[DataError], None]
"""Called with each error: to raise it, or to record it and return, so that the other images are processed."""

_URL = re.compile(r"[a-z][a-z0-9+.-]+:/{1,2}[^/]", re.IGNORECASE)
_CHUNK = 2**16  # bytes of a list read at once


def raise_error(error: DataError) -> None:
    """Raise the error: the default of ``on_error``."""
    raise error


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """All paths of :func:`iter_images`.

    Raises:
        DataError: if a path does not exist or cannot be listed, or a folder holds no image.
    """
    return list(iter_images(checked(paths)))


def iter_images(paths: Iterable[str | Path], on_error: OnError = raise_error) -> Iterator[Path]:
    """The image files that ``paths`` name, one at a time; only the names in one folder are held in memory.

    A folder is searched recursively, in sorted order. A pattern (``*``, ``?``, ``[...]``, and ``**`` for any depth)
    gives the image files that match it and those in matching folders; a file with exactly that name comes first.
    Any other path is taken for a file; whether it exists is found when it is read.

    Args:
        paths: files, folders and patterns.
        on_error: called for URLs, folders that cannot be listed or hold no image, and patterns without a match.
    """
    for path in paths:
        text = os.fspath(path)
        try:
            yield from _expand(text, on_error)
        except DataError as error:
            on_error(error)


def checked(paths: Iterable[str | Path]) -> list[str | Path]:
    """The same paths, each of which names something.

    Raises:
        DataError: naming the first that is a URL, does not exist, matches nothing, or is a folder without images.
    """
    known = list(paths)
    for path in known:
        text = os.fspath(path)
        if os.path.lexists(text) and not os.path.isdir(text):
            continue
        if not _is_url(text) and not os.path.isdir(text) and not glob.has_magic(text):
            raise DataError(f"{printable(text)}: there is no such file or folder")
        next(_expand(text, raise_error), None)
    return known


def images_under(folder: Path, on_error: OnError = raise_error) -> Iterator[Path]:
    """The files of :func:`files_under` that have an ending of an image."""
    return filter(has_image_ending, files_under(folder, on_error))


def files_under(folder: Path, on_error: OnError = raise_error) -> Iterator[Path]:
    """Every file in and below a folder, sorted; without hidden ones and without following links to folders.

    Raises:
        DataError: if a folder cannot be listed and ``on_error`` raises.
    """

    def report(error: OSError) -> None:
        on_error(DataError(f"{printable(error.filename)}: this folder cannot be listed ({error.strerror})"))

    for parent, folders, files in os.walk(folder, onerror=report):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(files) if not name.startswith("."))


def has_image_ending(path: str | Path) -> bool:
    """Whether a name ends as an image's does, in any case."""
    return os.path.splitext(path)[1].lower() in EXTENSIONS


def read_list(file: BinaryIO, *, by_null: bool | None = None) -> Iterator[str]:
    """The paths in a list, read in chunks.

    Args:
        file: the list, open for bytes: one path a line, or separated by NUL as ``find -print0`` writes.
        by_null: whether the paths are separated by NUL; by default, if the first chunk holds one.
    """
    rest = b""
    while chunk := (file.read1(_CHUNK) if hasattr(file, "read1") else file.read(_CHUNK)):
        if by_null is None:
            by_null = b"\0" in chunk
        *whole, rest = (rest + chunk).split(b"\0" if by_null else b"\n")
        yield from _decoded(whole, by_null)
    yield from _decoded([rest], bool(by_null))


def _decoded(paths: list[bytes], by_null: bool) -> Iterator[str]:
    for path in paths:
        stripped = path if by_null else path.removesuffix(b"\r")
        if stripped:
            yield os.fsdecode(stripped)


def _expand(text: str, on_error: OnError) -> Iterator[Path]:
    path = Path(text)
    if os.path.isdir(text):
        endings = ", ".join(sorted(EXTENSIONS))
        yield from _at_least_one(images_under(path, on_error), f"{text}: this folder holds no image ({endings})")
    elif os.path.lexists(text):  # a dangling link is reported when it is read
        yield path
    elif _is_url(text):
        raise DataError(f"{printable(text)}: nothing is fetched; download it and name the file")
    elif glob.has_magic(text):
        yield from _at_least_one(_matching(text, on_error), f"{text}: this pattern matches no image")
    else:
        yield path


def _at_least_one(paths: Iterator[Path], sentence: str) -> Iterator[Path]:
    first = next(paths, None)
    if first is None:
        raise DataError(printable(sentence))
    yield first
    yield from paths


def _matching(pattern: str, on_error: OnError) -> Iterator[Path]:
    """Image files that match, and those in matching folders, except folders that ``**`` already enters."""
    for name in sorted(glob.iglob(pattern, recursive=True)):
        if not os.path.isdir(name):
            if has_image_ending(name):
                yield Path(name)
        elif "**" not in pattern:
            yield from images_under(Path(name), on_error)


def _is_url(text: str) -> bool:
    return _URL.match(text) is not None
