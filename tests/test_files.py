import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from hexavit.errors import RunError
from hexavit.files import replacing, write_json, write_text


def test_a_failed_write_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "old")
    with suppress(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="this file cannot be written"):
        write_text(tmp_path / "file" / "a.txt", "text")


def test_json_holds_names_that_are_no_text(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", ["läufer", "\udcff.png"])
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == ["läufer", "\udcff.png"]


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").readlink() == Path("real.txt")
    assert (tmp_path / "real.txt").read_text() == "new"


def test_a_pipe_stays_and_receives_the_content(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        write_text(pipe, "content")
        assert reader.communicate(timeout=30)[0] == b"content"
    assert pipe.is_fifo()
