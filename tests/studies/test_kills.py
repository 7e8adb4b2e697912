"""Workers killed at random moments lose no cell, do none twice, and change no result."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hexavit.studies import Study
from hexavit.studies.queue import Queue

pytestmark = pytest.mark.slow
STUDY = Study.from_mapping(
    {
        "settings": {
            "model": "deit_nano", "data": "digits", "train_images": 400, "epochs": 3, "batch_size": 20, "lr": 0.001,
            "overrides": ["stages.0.depth=1"], "workers": 0, "save_every": 0,
        },
        "variants": {"learned": [], "none": ["stages.0.position=none"]},
        "seeds": [0, 1, 2],
        "part": "val",
    },
    "kills",
)  # fmt: skip
WORKER = (
    "import sys; from pathlib import Path; from hexavit.studies.queue import Queue\n"
    "Queue(sys.argv[1], 'kills', heartbeat=1, grace=4).work(Path(sys.argv[2]), print, poll=0.5)"
)


def results(url: str) -> dict[tuple[str, int], tuple[dict[str, str], tuple[tuple[float, float, float], ...]]]:
    states = Queue(url, STUDY.name).states()
    assert {state.state for state in states} == {"finished"}
    return {(s.cell, s.seed): (dict(s.outcome.right), s.outcome.history) for s in states if s.outcome is not None}


def worker(url: str, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, url, str(folder)], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """A server of its own, on a socket in the folder; PostgreSQL does not run as root."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if not shutil.which("initdb") else []
    programs = found[-1] if found else Path(shutil.which("initdb") or "").parent
    if not (programs / "initdb").exists():
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    pytest.importorskip("psycopg")
    as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    data = folder / "data"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    for parent in folder.parents:
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)

    def run(*words: str) -> None:
        subprocess.run([*as_user, *words], check=True, capture_output=True, cwd=folder)

    run(str(programs / "initdb"), "-D", str(data), "-U", "hexavit", "-A", "trust")
    options = f"-k {folder} -c listen_addresses=''"
    run(str(programs / "pg_ctl"), "-D", str(data), "-o", options, "-w", "-l", str(folder / "log"), "start")
    try:
        yield f"postgresql://hexavit@/postgres?host={folder}"
    finally:
        run(str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")


def killed(url: str, folder: Path) -> int:
    """Run with three workers of which one is killed every few seconds, and replaced; returns the number of kills."""
    choose, kills = random.Random(0), 0
    Queue(url, STUDY.name).create(STUDY)
    workers = [worker(url, folder) for _ in range(3)]
    deadline = time.monotonic() + 900
    while any(each.poll() is None for each in workers) and time.monotonic() < deadline:
        time.sleep(choose.uniform(4, 9))
        running = [each for each in workers if each.poll() is None]
        if running and kills < 6:
            victim = choose.choice(running)
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            workers.append(worker(url, folder))
            kills += 1
    assert time.monotonic() < deadline
    return kills


def test_killed_workers_change_nothing(tmp_path: Path) -> None:
    plain = f"sqlite:///{tmp_path / 'plain.db'}"
    Queue(plain, STUDY.name).create(STUDY)
    assert worker(plain, tmp_path / "plain").wait() == 0
    expected = results(plain)
    assert len(expected) == 6

    disturbed = f"sqlite:///{tmp_path / 'killed.db'}"
    assert killed(disturbed, tmp_path / "killed") >= 3
    assert results(disturbed) == expected

    with postgresql(tmp_path / "server") as url:
        assert killed(url, tmp_path / "postgresql") >= 3
        assert results(url) == expected
