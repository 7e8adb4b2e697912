"""Files written whole or not at all: whoever reads, at any moment, finds the old content or the new."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hexavit.errors import RunError

PARTS = ".*.part"
"""What the files are called that are not in their places yet."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; when the block succeeds it takes the place of ``path``.

    Raises:
        RunError: when the file cannot be written (no permission, no space).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())  # a rename may reach the disk before the content does
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(f"{path}: this file cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def check_ending(path: str | Path | None, *endings: str) -> None:
    """Refuse a name that says something else than what is to be written, as another file may bear it.

    Raises:
        RunError: with the endings that would do.
    """
    if path is not None and (given := Path(path).suffix.lower()) not in endings:
        raise RunError(f"{path}: this file is written as {' or '.join(endings)}, not as {given!r}")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole, indented."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if any("\ud800" <= each <= "\udfff" for each in text):  # a file's name that is no UTF-8; JSON's escapes can hold it
        text = json.dumps(value, indent=2)
    write_text(path, text + "\n")
