"""Which image files are meant: files, folders, patterns and lists, walked through without being held."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from hexavit.errors import DataError
from hexavit.images.decode import EXTENSIONS, printable

Refuse = Callable[[DataError], None]
"""What is done about something that cannot be read: raise it, or note it and return, so that the others go on."""

_URL = re.compile(r"[a-z][a-z0-9+.-]+:/{1,2}[^/]", re.IGNORECASE)
_PIECE = 2**16  # bytes of a list read at once


def raise_it(error: DataError) -> None:
    """Refuse at the first."""
    raise error


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """All that :func:`iter_images` gives.

    Raises:
        DataError: when a path does not exist or cannot be listed, or a folder holds no image.
    """
    return list(iter_images(checked(paths)))


def iter_images(paths: Iterable[str | Path], refuse: Refuse = raise_it) -> Iterator[Path]:
    """The image files meant by ``paths``, one after the other: nothing but a single folder's names is held.

    A folder is searched in depth, in sorted order. A pattern (``*``, ``?``, ``[...]``, and ``**`` for any depth) that
    no file has for its name gives the image files that it matches, and those in the folders. All else is taken for a
    file, there or not: it is named when it is read.

    Args:
        paths: files, folders and patterns.
        refuse: told of URLs, of folders that cannot be listed or hold no image, of patterns that match none.
    """
    for path in paths:
        text = os.fspath(path)
        try:
            yield from _meant(text, refuse)
        except DataError as error:
            refuse(error)


def _meant(text: str, refuse: Refuse) -> Iterator[Path]:
    path = Path(text)
    if os.path.isdir(text):
        yield from _in_folder(path, refuse)
    elif os.path.lexists(text):  # a link that leads nowhere is named when it is read
        yield path
    elif _is_url(text):
        raise DataError(f"{printable(text)}: nothing is fetched; download it and name the file")
    elif glob.has_magic(text):
        yield from _matching(text, refuse)
    else:
        yield path


def checked(paths: Iterable[str | Path]) -> list[str | Path]:
    """The same paths, once it is sure that there is something at each.

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
        next(_meant(text, raise_it), None)
    return known


def images_under(folder: Path, refuse: Refuse = raise_it) -> Iterator[Path]:
    """Every file in and below ``folder`` that has an image's ending, sorted; hidden ones and linked folders not.

    Raises:
        DataError: when a folder cannot be listed, unless ``refuse`` is told of it.
    """

    def tell(error: OSError) -> None:
        refuse(DataError(f"{printable(error.filename)}: this folder cannot be listed ({error.strerror})"))

    for parent, folders, files in os.walk(folder, onerror=tell):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and _is_named_image(name):
                yield Path(parent, name)


def read_list(file: BinaryIO, *, by_null: bool | None = None) -> Iterator[str]:
    """The paths in a list, one a line, or parted by NUL as ``find -print0`` writes; read bit by bit.

    Args:
        file: the list, open for bytes.
        by_null: whether they are parted by NUL; by default, if one stands in what comes first.
    """
    rest = b""
    while piece := (file.read1(_PIECE) if hasattr(file, "read1") else file.read(_PIECE)):
        if by_null is None:
            by_null = b"\0" in piece
        *whole, rest = (rest + piece).split(b"\0" if by_null else b"\n")
        yield from _decoded(whole, by_null)
    yield from _decoded([rest], bool(by_null))


def _decoded(paths: list[bytes], by_null: bool) -> Iterator[str]:
    for path in paths:
        plain = path if by_null else path.removesuffix(b"\r")
        if plain:
            yield os.fsdecode(plain)


def _in_folder(folder: Path, refuse: Refuse) -> Iterator[Path]:
    empty = True
    for path in images_under(folder, refuse):
        empty = False
        yield path
    if empty:
        raise DataError(f"{printable(folder)}: this folder holds no image ({', '.join(sorted(EXTENSIONS))})")


def _matching(pattern: str, refuse: Refuse) -> Iterator[Path]:
    """Files that match; folders are searched, but for those that ``**`` passes through."""
    empty = True
    for name in sorted(glob.iglob(pattern, recursive=True)):
        if os.path.isdir(name):
            if "**" not in pattern:
                for path in images_under(Path(name), refuse):
                    empty = False
                    yield path
        elif _is_named_image(name):
            empty = False
            yield Path(name)
    if empty:
        raise DataError(f"{printable(pattern)}: this pattern matches no image")


def _is_url(text: str) -> bool:
    return _URL.match(text) is not None


def _is_named_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in EXTENSIONS
