"""Logging to Weights & Biases, with a fake of the functions that are used."""

import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.using import digits_folder, history, interrupt_at, silent, tiny

from hexavit.errors import HexavitError, RunError
from hexavit.training import resume, train


class Wandb:
    """Keeps what it is printed, as the package would."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.begun: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.ended: list[int] = []

    def init(self, **options: Any) -> SimpleNamespace:
        if self.fault is not None:
            raise self.fault
        self.begun.append(options)
        return SimpleNamespace(
            id=options["id"] or f"id{len(self.begun)}",
            log=lambda values, step: self.logged.append((step, values)),
            finish=lambda exit_code: self.ended.append(exit_code),
        )


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Wandb:
    fake = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_every_epoch_is_logged(tmp_path: Path, there: Wandb) -> None:
    config = tiny(digits_folder(), wandb="digits")
    run = train(config, tmp_path / "run", console=silent()).run
    (begun,) = there.begun
    assert (begun["project"], begun["name"], begun["dir"], begun["id"]) == ("digits", "run", str(run.path), None)
    assert begun["config"] == asdict(config)
    rows = history(run)
    assert [step for step, _ in there.logged] == [int(row["step"]) for row in rows]
    assert [values["accuracy"] for _, values in there.logged] == [float(row["accuracy"]) for row in rows]
    assert there.ended == [0]


def test_a_resumed_run_continues_the_same_wandb_run(
    tmp_path: Path, there: Wandb, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        interrupt_at(patched, 1)
        with pytest.raises(KeyboardInterrupt):
            train(tiny(digits_folder(), wandb="digits"), tmp_path / "run", console=silent())
    assert there.ended == [1]
    resume(tmp_path / "run", console=silent())
    assert [begun["id"] for begun in there.begun] == [None, "id1"]
    assert len(there.logged) == 2
    assert there.ended == [1, 0]


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(HexavitError, match=r"--wandb needs the package wandb: pip install 'hexavit\[wandb\]'"):
        train(tiny(digits_folder(), wandb="digits"), tmp_path / "run", console=silent())
    assert not (tmp_path / "run").exists()


def test_without_a_login(tmp_path: Path, there: Wandb) -> None:
    there.fault = ValueError("api_key not configured\n(no-tty)")
    with pytest.raises(RunError, match=r"cannot be logged to \(api_key not configured \(no-tty\)\); WANDB_MODE=off"):
        train(tiny(digits_folder(), wandb="digits"), tmp_path / "run", console=silent())
