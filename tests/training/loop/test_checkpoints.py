import io
import os
import shutil
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tests.using import history, silent, trained

from hexavit.errors import CheckpointError
from hexavit.inference import Run
from hexavit.training import resume
from hexavit.training.loop.checkpoints import newest_checkpoint, previous_checkpoint, read_checkpoint, write_checkpoint
from hexavit.training.loop.train_state import TrainState


def state(number: int) -> dict[str, object]:
    return {"train_state": TrainState(epoch=number).as_dict(), "weights": torch.full((1000,), float(number))}


def written(tmp_path: Path, count: int) -> Run:
    run = Run(tmp_path)
    for number in range(count):
        write_checkpoint(run.checkpoint, state(number))
    return run


def test_the_previous_checkpoint_is_kept(tmp_path: Path) -> None:
    run = written(tmp_path, 3)
    assert read_checkpoint(run.checkpoint)["train_state"]["epoch"] == 2
    assert read_checkpoint(previous_checkpoint(run.checkpoint))["train_state"]["epoch"] == 1
    assert len(list(run.checkpoint.parent.iterdir())) == 2


def test_the_previous_checkpoint_is_kept_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", fail)
    run = written(tmp_path, 3)
    assert read_checkpoint(previous_checkpoint(run.checkpoint))["train_state"]["epoch"] == 1


def test_torch_load_reads_a_checkpoint(tmp_path: Path) -> None:
    run = written(tmp_path, 1)
    assert torch.load(run.checkpoint, weights_only=True)["train_state"]["epoch"] == 0


@pytest.mark.parametrize("place", [0.0, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("harm", ["flip", "cut"])
def test_a_damaged_checkpoint_is_detected_and_the_previous_one_used(tmp_path: Path, place: float, harm: str) -> None:
    run = written(tmp_path, 2)
    content = bytearray(run.checkpoint.read_bytes())
    at = int(place * len(content))
    content[at] ^= 1
    run.checkpoint.write_bytes(bytes(content if harm == "flip" else content[:at]))
    printed: list[str] = []
    found = newest_checkpoint(run, printed.append)
    assert found is not None
    assert found["train_state"]["epoch"] == 0
    assert len(printed) == 1
    assert "last.ckpt: this checkpoint is damaged or not safe to read; continuing from the previous one" in printed[0]


def test_the_error_for_damaged_checkpoints_names_the_command_to_start_again(tmp_path: Path) -> None:
    run = written(tmp_path, 2)
    for path in (run.checkpoint, previous_checkpoint(run.checkpoint)):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        CheckpointError, match=r"no undamaged one before it; to start again: hexavit train --config .* --ov"
    ):
        newest_checkpoint(run, print)
    assert newest_checkpoint(Run(tmp_path / "none"), print) is None


def test_a_run_continues_from_the_previous_checkpoint(tmp_path: Path) -> None:
    run = Run(shutil.copytree(trained().path, tmp_path / "run"))
    run.metrics.unlink()
    run.checkpoint.write_bytes(b"not what it was")
    shown = io.StringIO()
    again = resume(run.path, console=Console(file=shown, width=500)).run
    assert "continuing from the previous one, before.ckpt" in shown.getvalue()
    assert history(again) == history(trained())
    assert again.weights("last").read_bytes() == trained().weights("last").read_bytes()
    for path in (run.checkpoint, previous_checkpoint(run.checkpoint)):
        path.write_bytes(b"")
    run.metrics.unlink()
    with pytest.raises(CheckpointError, match="no undamaged one before it"):
        resume(run.path, console=silent())
