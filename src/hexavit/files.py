"""Atomic file writing: a reader finds the old content or the new, never a part."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hexavit.errors import RunError

PARTS = ".*.part"
"""Pattern of the names of files that are being written."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; when the block succeeds, it replaces ``path``.

    A symbolic link stays, and the file that it names is replaced. A device or a pipe stays, and receives the content.

    Raises:
        RunError: if the file cannot be written (no permission, no space).
    """
    target = Path(os.path.realpath(path))
    special = target.exists() and not (target.is_file() or target.is_dir())
    folder = Path(tempfile.gettempdir()) if special else target.parent
    temporary = folder / f".{target.name}.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield temporary
        if special:
            with temporary.open("rb") as content, target.open("wb") as stream:
                shutil.copyfileobj(content, stream)
            return
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())  # a rename may reach the disk before the content does
        os.replace(temporary, target)
    except OSError as error:
        raise RunError(f"{path}: this file cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def check_ending(path: str | Path | None, *endings: str) -> None:
    """Check that a file has an ending of its format; another ending may name a file of another kind by mistake.

    Raises:
        RunError: with the right endings.
    """
    if path is not None and (given := Path(path).suffix.lower()) not in endings:
        raise RunError(f"{path}: this file is written as {' or '.join(endings)}, not as {given!r}")


def write_text(path: Path, text: str) -> None:
    """Write a text file, in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, indented."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if any("\ud800" <= each <= "\udfff" for each in text):  # a file name that is not UTF-8, which an escape can hold
        text = json.dumps(value, indent=2)
    write_text(path, text + "\n")
