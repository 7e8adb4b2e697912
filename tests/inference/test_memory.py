"""Memory stays flat over long lists: a process of its own predicts some thousand files and watches itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BATCH = 16
# Whole batches: a last one of another size has kernels made for it. Fewer images than those from which on the model is
# optimized, which takes memory of its own.
COUNT, WARM = 124 * BATCH, 24 * BATCH


def watch(run: str, folder: str) -> None:
    """Predict the same few files repeatedly, with features; print the memory after each pass as JSON."""
    from itertools import cycle, islice

    import torch

    from hexavit.inference import load_model, predict

    torch.set_num_threads(1)
    files = cycle(sorted(Path(folder).rglob("*.png")))
    before, count = 0, 0
    for _ in predict(load_model(run), islice(files, COUNT), features=True, device="cpu", batch_size=BATCH):
        count += 1
        if count == WARM:
            before = resident()
    print(json.dumps({"count": count, "grown": resident() - before}))


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from Linux's /proc")
def test_it_is_flat() -> None:
    from tests.using import digits_folder, trained  # not in the process that is watched

    call = [sys.executable, __file__, str(trained().path), str(digits_folder())]
    done = subprocess.run(call, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["count"] == COUNT
    # To hold what was decoded would take 3 KB an image: 4.9 MB.
    assert found["grown"] < 3 * 2**20


if __name__ == "__main__":
    watch(*sys.argv[1:])
