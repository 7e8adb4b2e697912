"""Helpers of the benchmarks: what `hexavit.profiling.measure` measures, and runs in a separate process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

from hexavit.profiling.measure import interleaved, processor, speedup
from hexavit.profiling.measure import peak_bytes as _peak_bytes

__all__ = ["in_own_process", "interleaved", "peak_bytes", "processor", "speedup"]


def peak_bytes(run: Callable[[], object]) -> int:
    """Peak resident memory that `run` adds, in bytes. Call it in a separate process, on Linux."""
    found = _peak_bytes(run)
    if found is None:
        raise RuntimeError("the peak of the resident memory is not known on this system")
    return found


def in_own_process(script: str, *arguments: str) -> dict[str, float]:
    """Run a benchmark script in a new process; the last line of its output is JSON."""
    env = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, script, *arguments], check=True, capture_output=True, text=True, env=env)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result
