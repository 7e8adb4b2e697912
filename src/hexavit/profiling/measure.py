"""Speed side by side in one process, peak memory, and the name of the processor."""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

_STATUS = Path("/proc/self/status")


def interleaved(
    runs: Mapping[str, Callable[[], object]], rounds: int, *, settle: bool = False
) -> dict[str, list[float]]:
    """Seconds of each run, interleaved over `rounds` after one warm-up, so that drift affects all equally.

    Args:
        runs: by name.
        rounds: how often each is timed.
        settle: call each once more, untimed, before each time: for engines whose threads keep a core busy for some time
            after a pass, and would slow the next one.
    """
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            if settle:
                run()
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


def peak_bytes(run: Callable[[], object]) -> int | None:
    """Peak resident memory that `run` adds to this process, in bytes; None where the system does not tell (not Linux).

    Memory that the allocator has kept from before is not counted where it is reused, so run the largest first or in a
    process of its own.
    """
    if not _STATUS.exists():
        run()
        return None
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # returns freed memory to the system
    before = _status("VmRSS")
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the resident size
    except OSError:  # not allowed in some containers
        run()
        return None
    run()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{_STATUS} has no {field}")
