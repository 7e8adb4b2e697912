"""Helpers of the benchmarks: interleaved timing in one process, and peak memory in a separate process."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

STATUS = Path("/proc/self/status")


def interleaved(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each run, interleaved over `rounds` after one warm-up, so that drift affects all equally."""
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def speedup(seconds: Mapping[str, list[float]], ours: str, theirs: str) -> float:
    """Median over the rounds of theirs / ours."""
    return statistics.median(b / a for a, b in zip(seconds[ours], seconds[theirs], strict=True))


def processor() -> str:
    """The processor's name and the instruction set that PyTorch uses on it."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else "unknown processor"
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


def peak_bytes(run: Callable[[], object]) -> int:
    """Peak resident memory that `run` adds, in bytes. Call it in a separate process, on Linux."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # returns freed memory to the system
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the resident size
    run()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{STATUS} has no {field}")


def in_own_process(script: str, *arguments: str) -> dict[str, float]:
    """Run a benchmark script in a new process; the last line of its output is JSON."""
    env = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, script, *arguments], check=True, capture_output=True, text=True, env=env)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result
