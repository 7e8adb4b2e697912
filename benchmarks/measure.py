"""What the benchmarks share: interleaved timing in one process, and peak memory in a process of its own."""

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
    """Seconds of each run, in turn, `rounds` times after one warm-up: drift of the machine meets all alike."""
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
    """Resident memory that `run` adds at its peak to what is held before it; for a process of its own, on Linux."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed and is still resident is not held
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to what is resident now
    run()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{STATUS} has no {field}")


def in_own_process(script: str, *arguments: str) -> dict[str, float]:
    """Run a benchmark's own script again with arguments; its last line is JSON."""
    env = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, script, *arguments], check=True, capture_output=True, text=True, env=env)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer
