"""Real small files with random damage: each ends in a report or in one sentence, quickly, in little memory.

The quick run has 500 files, `-m slow` 20,000. What would run code leaves a mark, and none may be left. Damage is
of five kinds; archives are also damaged inside, with checksums made right again, as an attacker would.
"""

import resource
import time
import zipfile
from collections import Counter
from pathlib import Path
from random import Random

import pytest
import torch
from tests.checkpoints.files import Trap, authors_state, rezipped, write_all

from hexavit.checkpoints import inspect_checkpoint
from hexavit.errors import HexavitError

SECONDS = 10.0  # for one file of some 100 kB, on a busy machine
GROWTH = 512 << 20  # bytes of peak memory over all files


def corrupted(data: bytes, random: Random) -> bytes:
    """Bytes flipped, cut out, doubled, replaced by extremes, or the end cut off."""
    out = bytearray(data)
    head = min(len(out), random.choice([64, 4096, len(out)]))  # most fields are at the start
    for _ in range(random.choice([1, 1, 2, 8])):
        at, span = random.randrange(max(head, 1)), random.choice([1, 2, 4, 8, 64])
        kind = random.randrange(5)
        if kind == 0 and out:
            out[min(at, len(out) - 1)] ^= 1 << random.randrange(8)
        elif kind == 1:
            del out[at : at + span]
        elif kind == 2:
            out[at:at] = out[at : at + span]
        elif kind == 3:
            out[at : at + span] = random.choice([b"\xff", b"\x00", b"\x7f", b"\x80"]) * span
        else:
            del out[random.randrange(len(out) + 1) :]
    return bytes(out)


def corrupted_inside(path: Path, random: Random) -> bytes:
    """An archive with one record damaged: its pickle, mostly."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    pickles = [name for name in names if name.endswith("data.pkl")]
    chosen = random.choice(pickles if pickles and random.random() < 0.8 else names)
    return rezipped(path, lambda name, data: corrupted(data, random) if name == chosen else data)


def fuzz(folder: Path, count: int, seed: int) -> Counter[str]:
    """Inspect ``count`` corrupt files; returns how many were read and how many rejected."""
    random, files = Random(seed), list(write_all(folder).values())
    mark = folder / "mark"
    torch.save({"state_dict": authors_state(), "x": Trap(mark)}, folder / "trap.pth")
    torch.save(
        {"state_dict": authors_state(), "x": Trap(mark)}, folder / "trap_old.pth", _use_new_zipfile_serialization=False
    )
    files += [folder / "trap.pth", folder / "trap_old.pth"]
    ends: Counter[str] = Counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    target = folder / "corrupt"
    for _ in range(count):
        path = random.choice(files)
        inside = zipfile.is_zipfile(path) and random.random() < 0.5
        target.write_bytes(corrupted_inside(path, random) if inside else corrupted(path.read_bytes(), random))
        start, sentence = time.perf_counter(), ""
        try:
            inspect_checkpoint(target)
        except HexavitError as error:
            sentence = str(error)
        ends["rejected" if sentence else "read"] += 1
        assert "\n" not in sentence
        assert time.perf_counter() - start < SECONDS, path.name
    assert not mark.exists()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < GROWTH
    return ends


def test_five_hundred_corrupt_files(tmp_path: Path) -> None:
    ends = fuzz(tmp_path, 500, seed=0)
    assert ends["read"] > 5  # some damage is in numbers or names of no weight
    assert ends["rejected"] > 250


@pytest.mark.slow
def test_twenty_thousand_corrupt_files(tmp_path: Path) -> None:
    assert fuzz(tmp_path, 20_000, seed=1).total() == 20_000
