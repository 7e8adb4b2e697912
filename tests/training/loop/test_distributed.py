import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.killing import in_process, in_processes
from tests.training.loop.test_kills import settings
from tests.using import digits_folder, silent

from hexavit.errors import HexavitError
from hexavit.inference import Run
from hexavit.processes import Processes
from hexavit.training.loop.checkpoints import read_checkpoint
from hexavit.training.loop.distributed import Launch


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [1, 4, 9, 10])
def test_shares_are_even_and_complete(world: int, count: int) -> None:
    shares = [Processes(rank, world).share(count) for rank in range(world)]
    assert [place for share in shares for place in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_launcher_is_found_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in os.environ if each.startswith("SLURM")]:
        monkeypatch.delenv(name)
    assert Launch.find(1) == Launch()
    assert Launch.find(3) == Launch(devices=3)
    with monkeypatch.context() as slurm:
        for name, value in {"NTASKS": 8, "NNODES": 2, "PROCID": 5}.items():
            slurm.setenv(f"SLURM_{name}", str(value))
        assert Launch.find(1) == Launch(5, devices=4, nodes=2, by="slurm")
        assert Launch.find(4).processes == Processes(5, 8)
        slurm.setenv("SLURM_JOB_NAME", "interactive")
        assert Launch.find(1) == Launch()
    for name, value in as_torchrun(1, 2, 0).items():
        monkeypatch.setenv(name, value)
    assert Launch.find(1) == Launch(1, devices=2, by="torchrun")
    with pytest.raises(HexavitError, match="torchrun started 2 processes on each machine, so devices cannot be 3"):
        Launch.find(3)
    assert Launch.find(3, binding=False).devices == 2


def as_torchrun(rank: int, world: int, port: int) -> dict[str, str]:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "GROUP_RANK": 0}
    place = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "none"}
    return {name: str(value) for name, value in {**ranks, **place}.items()}


def train_one(
    environment: dict[str, str], given: dict[str, Any], out: Path, stop: int = 0, change: dict[str, Any] | None = None
) -> None:
    """One of the processes, as torchrun starts it; the last one receives SIGTERM in step ``stop``.

    A run that is there is resumed, with the settings in ``change``.
    """
    from hexavit.training import TrainConfig, resume, train
    from hexavit.training.loop import loop

    os.environ.update(environment)
    gradient, calls = loop.accumulate_gradients, []

    def counted(*args: Any, **options: Any) -> float:
        calls.append(args)
        if len(calls) == stop and environment["RANK"] != "0":
            os.kill(os.getpid(), signal.SIGTERM)
        return gradient(*args, **options)

    loop.accumulate_gradients = counted
    if Run(out).config.exists() and not Run(out).metrics.exists():
        resume(out, given=change, console=silent())
    else:
        if given.get("shard"):
            assert_that_weights_are_split()
        train(TrainConfig.from_mapping(given), out, console=silent(), overwrite=True)


def assert_that_weights_are_split() -> None:
    from torch.distributed.tensor import DTensor

    from hexavit.training.loop.loop import TrainingLoop

    step = TrainingLoop.training_step

    def checked(self: TrainingLoop, *batch: Any) -> Any:
        models = (self.model, *([] if self.ema is None else [self.evaluated_model]))
        weights = [weight for model in models for weight in model.parameters()]
        assert all(isinstance(weight, DTensor) for weight in weights)
        held = sum(weight.to_local().numel() for weight in weights)  # type: ignore[attr-defined]
        assert held < 0.6 * sum(weight.numel() for weight in weights)
        return step(self, *batch)

    TrainingLoop.training_step = checked  # type: ignore[method-assign]


def train_together(world: int, given: dict[str, Any], out: Path, stop: int = 0) -> list[int | None]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    return in_processes([(train_one, as_torchrun(rank, world, port), given, out, stop) for rank in range(world)])


def without_draws() -> dict[str, Any]:
    """Settings without random draws within a process, which differ between processes: no drop path."""
    return {**settings(1e9), "overrides": ["stages.*.depth=1"], "epochs": 3}


def assert_alike(one: Run, other: Run, atol: float) -> None:
    assert one.split_file.read_text() == other.split_file.read_text()
    for which in ("best", "last"):
        weights, theirs = (load_file(run.weights(which)) for run in (one, other))  # type: ignore[arg-type]
        assert list(weights) == list(theirs)
        for name, value in weights.items():
            torch.testing.assert_close(value, theirs[name], rtol=0, atol=atol, msg=lambda text, name=name: name + text)
    tables = [[line.split(",") for line in run.history.read_text().splitlines()] for run in (one, other)]
    for name in ("epoch", "step", "learning_rate", "accuracy"):
        at = tables[0][0].index(name)
        assert [row[at] for row in tables[0]] == [row[at] for row in tables[1]], name
    for name in ("train_loss", "loss"):
        at = tables[0][0].index(name)
        for row, their in zip(tables[0][1:], tables[1][1:], strict=True):
            assert float(row[at]) == pytest.approx(float(their[at]), abs=1e-4)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "alone"
    assert in_process(train_one, {"RANK": "0"}, without_draws(), out) == 0
    return Run(out)


@pytest.mark.parametrize("world", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_several_processes_equal_one(tmp_path: Path, alone: Run, world: int) -> None:
    run = Run(tmp_path / "run")
    assert train_together(world, without_draws(), run.path) == [0] * world
    assert_alike(alone, run, atol=2e-4)  # after nine steps of AdamW with lr 1e-3
    assert not list(run.path.rglob("*.1.*"))


@pytest.mark.parametrize(
    ("first", "second"), [(2, 1), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((1, 2), (2, 2)))]
)
def test_a_signal_to_one_process_stops_all_and_any_number_resumes(
    tmp_path: Path, alone: Run, first: int, second: int
) -> None:
    run, given = Run(tmp_path / "run"), without_draws()
    if first == 1:
        code = in_process(train_one, {"RANK": "1"}, given, run.path, 5)
        assert code == 128 + signal.SIGTERM
    else:
        assert train_together(first, given, run.path, 5) == [128 + signal.SIGTERM, 0]
    state = read_checkpoint(run.checkpoint)["train_state"]
    assert (state["epoch"], state["step"]) == (1, 2)
    if second == 1:
        assert in_process(train_one, {"RANK": "0"}, given, run.path) == 0
    else:
        assert train_together(second, given, run.path) == [0, 0]
    assert_alike(alone, run, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"model": "deit_nano", "ema": 0.0, "micro_batch": 2, "optimizer": "sgd"}])
def test_split_weights_learn_what_whole_ones_learn(tmp_path: Path, alone: Run, settings: dict[str, Any]) -> None:
    run, given = Run(tmp_path / "run"), {**without_draws(), **settings, "shard": True}
    assert train_together(2, given, run.path, 5) == [128 + signal.SIGTERM, 0]
    assert (read_checkpoint(run.checkpoint)["train_state"]["epoch"], run.metrics.exists()) == (1, False)
    if settings:  # the checkpoint holds whole tensors: any number of processes continues, splitting or not
        assert in_process(train_one, {"RANK": "0"}, given, run.path, 0, {"shard": False}) == 0
    else:
        assert train_together(2, given, run.path) == [0, 0]
    whole = alone
    if settings:
        whole = Run(tmp_path / "whole")
        assert in_process(train_one, {"RANK": "0"}, {**given, "shard": False}, whole.path) == 0
    assert_alike(whole, run, atol=2e-4)


@pytest.mark.slow
def test_patience_ends_all_processes_at_the_same_epoch(tmp_path: Path) -> None:
    run, still = Run(tmp_path / "run"), {"lr": 1e-12, "freeze": -1, "epochs": 5, "patience": 1}
    assert train_together(2, {**without_draws(), **still}, run.path) == [0, 0]
    assert len(run.history.read_text().splitlines()) == 1 + 2


def test_a_loss_that_is_not_finite_stops_all_processes(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    codes = train_together(2, {**without_draws(), "lr": 1e30, "clip_grad": 0.0, "warmup_epochs": 0.0}, run.path)
    assert codes == [1, 0]  # rank 0 raises the RunError
    assert {each.name for each in run.path.glob("bad_batch*")} == {"bad_batch.safetensors", "bad_batch.1.safetensors"}


def test_an_error_of_the_first_process_ends_all(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    assert train_together(2, without_draws(), tmp_path) == [1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["devices", "torchrun"])
def test_the_command_line_starts_several_processes(tmp_path: Path, launcher: str) -> None:
    out = tmp_path / "run"
    command = ["-m", "hexavit", "train", "--model=cvt_nano", f"--data={digits_folder()}", "--epochs=1", "--device=cpu"]
    command += ["--batch-size=8", "--img-size=32", "--workers=1", f"--out={out}"]
    if launcher == "devices":
        command.append("--devices=2")
    else:
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("validation accuracy") == 1
    assert Run(out).metrics.is_file()
