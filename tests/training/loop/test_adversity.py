"""A full disk, a folder that cannot be written: one error message, no partial files, and the run can be resumed."""

import errno
import os
import resource
import sys
from pathlib import Path

import pytest
from tests.killing import in_process
from tests.using import digits_folder, history, silent, tiny, trained

from hexavit.errors import RunError
from hexavit.inference import Run
from hexavit.training import resume, train
from hexavit.training.loop.checkpoints import previous_checkpoint, read_checkpoint


def fill_the_disk(data: str, out: Path) -> None:
    """Train; in the second epoch no file may exceed one megabyte; the checkpoint does."""
    from hexavit.cli import main
    from hexavit.training.loop.loop import TrainingLoop

    step = TrainingLoop.training_step

    def full(self: TrainingLoop, *args: object) -> object:
        if self.state.epoch == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, resource.RLIM_INFINITY))
        return step(self, *args)  # type: ignore[arg-type]

    TrainingLoop.training_step = full  # type: ignore[assignment,method-assign]
    log = os.open(out.with_suffix(".log"), os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 2)
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    recipe = out.with_suffix(".yaml")
    recipe.write_text(tiny(data, save_every=0).to_yaml())
    sys.exit(main(["train", "--out", str(out), "--config", str(recipe)]))


def test_a_full_disk_is_an_error_and_the_run_can_be_resumed(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    assert in_process(fill_the_disk, str(digits_folder()), run.path) == 2
    printed = run.path.with_suffix(".log").read_text()
    assert printed == f"error: {run.checkpoint}: this file cannot be written (File too large)\n"
    assert read_checkpoint(run.checkpoint)["train_state"]["epoch"] == 1
    assert read_checkpoint(previous_checkpoint(run.checkpoint))["train_state"]["step"] == 3
    assert not list(run.path.rglob(".*.part"))
    resume(run.path, console=silent())
    assert history(run) == history(trained())
    assert run.weights("last").read_bytes() == trained().weights("last").read_bytes()


@pytest.mark.parametrize("write", [0, 9, 18, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 6, 12, 15, 21))])
def test_a_full_disk_at_any_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: int) -> None:
    run, written, fsync = Run(tmp_path / "run"), [], os.fsync

    def full(file: int) -> None:
        written.append(file)
        if len(written) > write:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(file)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"this file cannot be written \(No space left on device\)"):
            train(tiny(digits_folder(), save_every=0.0), run.path, console=silent())
    assert not list(run.path.rglob(".*.part"))
    if run.config.exists():
        resume(run.path, console=silent())
    else:
        train(tiny(digits_folder(), save_every=0.0), run.path, console=silent())
    assert history(run) == history(trained())
    for which in ("best", "last"):
        assert run.weights(which).read_bytes() == trained().weights(which).read_bytes()  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(RunError, match=r"run: this folder cannot be created \(Read-only file system\)"):
        train(tiny(digits_folder()), tmp_path / "run", console=silent())


def test_a_folder_that_becomes_read_only_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path / "run")
    replaced = os.replace

    def fail(source: object, target: Path) -> None:
        if Path(target).name == "last.safetensors":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        replaced(source, target)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", fail)
        with pytest.raises(RunError, match=r"last.safetensors: this file cannot be written \(Permission denied\)"):
            train(tiny(digits_folder()), run.path, console=silent())
    resume(run.path, console=silent())
    assert history(run) == history(trained())
