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


def watch(run: str, folder: str, count: int, features: bool) -> None:
    """Predict the same few files repeatedly; print the number and how far memory has grown after a while, as JSON."""
    from itertools import cycle, islice

    import torch

    from hexavit.inference import predict

    torch.set_num_threads(1)
    files = cycle(sorted(Path(folder).rglob("*.png")))
    before, done = 0, 0
    for _ in predict(run, islice(files, count), features=features, device="cpu", batch_size=BATCH):
        done += 1
        if done == WARM:
            before = resident()
    print(json.dumps({"count": done, "grown": resident() - before}))


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def watched(source: Path, count: int, *, features: bool) -> int:
    """By how many bytes a process grows that predicts so many images."""
    from tests.using import digits_folder  # not in the process that is watched

    call = [sys.executable, __file__, str(source), str(digits_folder()), str(count), str(int(features))]
    done = subprocess.run(call, capture_output=True, text=True, check=False, timeout=3000)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["count"] == count
    return int(found["grown"])


LINUX = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from Linux's /proc")


@LINUX
@pytest.mark.slow
def test_it_is_flat() -> None:
    from tests.using import trained

    # To hold what was decoded would take 3 KB an image: 4.9 MB.
    assert watched(trained().path, COUNT, features=True) < 3 * 2**20


@LINUX
@pytest.mark.slow
def test_it_is_flat_over_a_hundred_thousand_images() -> None:
    from tests.inference.exported import exported

    # To hold the predictions alone would take 50 MB.
    assert watched(exported(".onnx"), 100_000, features=False) < 5 * 2**20


if __name__ == "__main__":
    watch(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "1")
