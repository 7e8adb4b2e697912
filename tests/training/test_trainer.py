import io
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console
from safetensors import safe_open
from tests.using import digits_folder, history, interrupt_at, make_folder, silent, tiny, trained

import hexavit
from hexavit.cli import main
from hexavit.errors import CheckpointError, DataError, HexavitError, RunError
from hexavit.inference import Run
from hexavit.training import TrainConfig, limits, resume, train
from hexavit.training.auto_config.fact_types import Machine
from hexavit.training.config import ConfigError
from hexavit.training.loop.checkpoints import previous_checkpoint, read_checkpoint, write_checkpoint
from hexavit.training.loop.loop import TrainingLoop
from hexavit.training.loop.progress import ProgressBar
from hexavit.training.loop.train_state import TrainState
from hexavit.training.setup import prepare_run


def test_files_of_a_run_folder() -> None:
    run = trained()
    files = {each.relative_to(run.path).as_posix() for each in run.path.rglob("*") if each.is_file()}
    assert {each for each in files if not each.startswith("tensorboard/")} == {
        "architecture.json",
        "checkpoints/before.ckpt",
        "checkpoints/last.ckpt",
        "classes.json",
        "config.yaml",
        "curves.png",
        "input.json",
        "metrics.csv",
        "metrics.json",
        "split.json",
        "weights/best.safetensors",
        "weights/last.safetensors",
    }
    assert any(each.startswith("tensorboard/events") for each in files)
    assert hexavit.Architecture.from_json(run.architecture.read_text()).num_classes == 3
    assert TrainConfig.from_mapping(yaml.safe_load(run.config.read_text())) == tiny(digits_folder())
    with Image.open(run.curves) as curves:
        assert curves.width > 500


def test_metrics_are_those_of_the_history() -> None:
    metrics, rows = json.loads(trained().metrics.read_text()), history(trained())
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert metrics["accuracy"] == max(float(row["accuracy"]) for row in rows)
    assert metrics["last_accuracy"] == float(rows[-1]["accuracy"])
    assert (metrics["epochs"], metrics["steps"], metrics["train_images"], metrics["held_out_images"]) == (2, 6, 24, 6)
    assert metrics["images_per_second"] > 0


def test_the_same_seed_gives_the_same_metrics_to_the_last_digit(tmp_path: Path) -> None:
    torch.manual_seed(123)  # must not matter
    again = train(tiny(digits_folder()), tmp_path / "again", console=silent()).run
    other = train(tiny(digits_folder(), seed=1), tmp_path / "other", console=silent()).run
    assert history(again) == history(trained()) != history(other)
    assert again.weights("last").read_bytes() == trained().weights("last").read_bytes()


def test_training_restores_the_state_of_the_process(tmp_path: Path) -> None:
    before = torch.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    train(tiny(digits_folder(), epochs=1), tmp_path / "run", console=silent())
    after = torch.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def _varied() -> TrainConfig:
    """Settings under which every kind of randomness is drawn."""
    varied = {"mixup": 0.2, "repeats": 2, "optimizer": "lamb", "schedule": "epoch_cosine"}
    return tiny(digits_folder(), epochs=3, **varied, overrides=["stages.*.drop_path=0.1"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(_varied(), tmp_path_factory.mktemp("runs") / "whole", console=silent()).run


@pytest.mark.parametrize(
    ("stop", "save_every"),
    [
        ((0, 1), 1e9),
        ((1, 0), 1e9),
        ((1, 2), 0.0),
        pytest.param((1, 2), 1e9, marks=pytest.mark.slow),
        pytest.param((0, 1), 0.0, marks=pytest.mark.slow),
        pytest.param((2, 1), 0.0, marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Run, stop: tuple[int, int], save_every: float
) -> None:
    with monkeypatch.context() as patched:
        interrupt_at(patched, *stop)
        shown = silent()
        with pytest.raises(KeyboardInterrupt):
            train(replace(_varied(), save_every=save_every), tmp_path / "parts", console=shown)
    printed = cast("io.StringIO", shown.file).getvalue()
    within = f"to continue after step {stop[1]} of epoch {stop[0] + 1}: hexavit train --resume --out"
    if save_every == 0 and stop[1]:
        assert within in printed
    else:  # there is a checkpoint from the end of an epoch
        assert (f"to continue with epoch {stop[0] + 1}: hexavit" in printed) == (stop[0] > 0)
    assert not Run(tmp_path / "parts").metrics.exists()
    taken, step = [], TrainingLoop.training_step

    def watched(self: TrainingLoop, images: torch.Tensor, target: torch.Tensor) -> tuple[float, int]:
        taken.append((self.state.epoch, self.state.step))
        return step(self, images, target)

    monkeypatch.setattr(TrainingLoop, "training_step", watched)
    terminal = Console(file=io.StringIO(), force_terminal=True)  # with a bar that starts within an epoch
    parts = resume(tmp_path / "parts", console=terminal).run
    assert taken[0] == (stop if save_every == 0 else (stop[0], 0))
    assert history(parts) == history(whole)
    for which in ("best", "last"):
        assert parts.weights(which).read_bytes() == whole.weights(which).read_bytes()


def _unfinished(tmp_path: Path) -> Run:
    run = Run(shutil.copytree(trained().path, tmp_path / "run"))
    run.metrics.unlink()
    return run


def test_a_run_is_not_resumed_with_another_setting(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"this run has lr 0\.001; it cannot be resumed with 0\.1"):
        resume(_unfinished(tmp_path).path, given={"lr": 0.1})


def test_a_run_is_not_resumed_with_other_classes(tmp_path: Path) -> None:
    run = _unfinished(tmp_path)
    data = make_folder(tmp_path / "data", 4)
    run.config.write_text(tiny(data).to_yaml())
    (data / "zero").rename(data / "nought")
    with pytest.raises(DataError, match="the run has the classes one, two, zero, and this data has nought, one, two"):
        resume(run.path)


def test_reading_a_checkpoint_executes_no_code(tmp_path: Path) -> None:
    run = _unfinished(tmp_path)

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "harm",))  # type: ignore[return-value]

    write_checkpoint(run.checkpoint, {"train_state": {}, "model": Evil()})
    previous_checkpoint(run.checkpoint).unlink()
    with pytest.raises(CheckpointError, match=r"last\.ckpt: this checkpoint is damaged or not safe to read"):
        resume(run.path, console=silent())
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named_in_one_line(tmp_path: Path, workers: int) -> None:
    data = make_folder(tmp_path / "data", 4)
    for file in data.rglob("*.png"):
        file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(DataError) as raised:
        train(tiny(data, workers=workers), tmp_path / "run", console=silent())
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(str(data))


def test_a_diverging_run_stops_and_keeps_the_good_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = TrainingLoop.training_step

    def diverging(self: TrainingLoop, images: torch.Tensor, target: torch.Tensor) -> tuple[float, int]:
        bad = (self.state.epoch, self.state.step) == (1, 1)
        return step(self, images * float("nan") if bad else images, target)

    monkeypatch.setattr(TrainingLoop, "training_step", diverging)
    with pytest.raises(RunError, match=r"the loss became nan in epoch 2, step 2: try a lower lr; .*bad_batch"):
        train(tiny(digits_folder()), tmp_path / "run", console=silent())
    run = Run.open(tmp_path / "run")
    assert len(history(run)) == 1
    assert all(bool(each.isfinite().all()) for each in run.model("last").state_dict().values())
    state = read_checkpoint(run.checkpoint)
    assert (state["train_state"]["epoch"], state["train_state"]["step"]) == (1, 1)
    assert all(bool(each.isfinite().all()) for each in state["model"].values())
    with safe_open(run.path / "bad_batch.safetensors", "pt") as kept:
        assert kept.get_tensor("images").shape == (8, 3, 32, 32)
        assert kept.get_tensor("images").isnan().all()
        assert kept.get_tensor("target").shape == (8,)
        assert kept.metadata() == {"what": "the loss became nan", "seed": "0", "epoch": "2", "step": "2"}


def test_an_invalid_model_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(hexavit.HexavitError, match="cvt_nano"):
        train(tiny(digits_folder(), model="cvt_nan"), tmp_path / "run", console=silent())
    assert not (tmp_path / "run").exists()


def test_lines_in_a_file_and_a_bar_on_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tiny(digits_folder(), epochs=1), tmp_path / "lines")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("cvt_nano: 0.57 M parameters, 3 x 32 x 32 pixels in, 3 classes out")
    assert lines[-1].startswith("epoch 1/1  loss ")
    assert len(lines) == 4
    train(tiny(digits_folder(), epochs=1), tmp_path / "bar", console=Console(force_terminal=True, width=120))
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("epoch 1/1", "loss", "accuracy", "images/s", "0:00:00"))


def test_a_run_starts_from_the_weights_of_another(tmp_path: Path) -> None:
    printed = io.StringIO()
    settings = {"start": str(trained().path), "epochs": 1, "lr": 1e-9, "overrides": ["stages.0.attention.stride_kv=1"]}
    fine = train(tiny(digits_folder(), **settings), tmp_path / "fine", console=Console(file=printed, width=200))
    before, after = trained().model("best").state_dict(), fine.run.model("last").state_dict()
    weights = [key for key in before if key.endswith("weight") and "norm" not in key and ".bn." not in key]
    assert all(torch.allclose(before[key], after[key], atol=1e-6) for key in weights)
    assert "loaded" in printed.getvalue()
    with pytest.raises(
        HexavitError, match=r"there is no such run folder, file or model to start from: did you mean 'cvt_21'"
    ):
        train(tiny(digits_folder(), start="cvt_31"), tmp_path / "none", console=silent())
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["deit_nano", "swin_nano"])
def test_a_run_at_another_size_carries_positions_and_windows(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    small = hexavit.create_model(name, num_classes=3, img_size=32)
    torch.save({key: torch.randn_like(value) for key, value in small.state_dict().items()}, tmp_path / "small.pth")
    weights = torch.load(tmp_path / "small.pth", weights_only=True)
    config = tiny(digits_folder(), model=name, img_size=64, start=str(tmp_path / "small.pth"))
    prepared = prepare_run(config, tmp_path / "run", False, lambda _: None)
    loaded = prepared.model.state_dict()
    changed = {key for key, value in loaded.items() if value.shape != weights[key].shape}
    assert all(torch.equal(value, weights[key]) for key, value in loaded.items() if key not in changed)
    assert len(changed) == (1 if name == "deit_nano" else 2)  # the last stage has larger windows on the larger map
    for key in changed:
        before, after = (state[key].flatten(0, -2) for state in (weights, loaded))  # (rows, C)
        sides = [math.isqrt(len(table)) for table in (before, after)]
        extra = len(before) - sides[0] ** 2
        assert len(after) - sides[1] ** 2 == extra
        grid = before[extra:].T.reshape(1, -1, sides[0], sides[0])
        expected = torch.nn.functional.interpolate(grid, size=(sides[1],) * 2, mode="bicubic", align_corners=False)
        torch.testing.assert_close(after[extra:], expected.flatten(2)[0].T, rtol=1e-4, atol=1e-4)
        assert torch.equal(after[:extra], before[:extra])


def _interrupted(monkeypatch: pytest.MonkeyPatch, config: TrainConfig, out: Path, epoch: int, step: int = 0) -> None:
    with monkeypatch.context() as patched:
        interrupt_at(patched, epoch, step)
        with pytest.raises(KeyboardInterrupt):
            train(config, out, console=silent())


def test_images_are_normalised_as_for_the_initial_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The normalisation is written before the first step.
    fine = tiny("digits", start=str(trained().path), in_chans=3, freeze=3, head_lr=2.0, layer_decay=0.7)
    _interrupted(monkeypatch, fine, tmp_path / "fine", 0)
    before, spec = trained().input_spec(), Run(tmp_path / "fine").input_spec()
    assert (spec.mean, spec.std, spec.interpolation) == (before.mean, before.std, before.interpolation)
    assert spec.crop_pct == 1.0  # which is the digits' own
    _interrupted(monkeypatch, tiny("digits"), tmp_path / "new", 0)
    assert Run(tmp_path / "new").input_spec().mean == (0.305,)


def test_a_finished_run_continues_for_more_epochs(tmp_path: Path) -> None:
    run = Run(shutil.copytree(trained().path, tmp_path / "run"))
    with pytest.raises(RunError, match="this run has finished; more --epochs continue it"):
        resume(run.path, console=silent())
    with pytest.raises(RunError, match="epochs is at least 2, which this run has done, not 1"):
        resume(run.path, given={"epochs": 1}, console=silent())
    resume(run.path, given={"epochs": 3}, console=silent())
    rows = history(run)
    assert rows[:2] == history(trained())
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert json.loads(run.metrics.read_text())["epochs"] == 3
    assert "epochs: 3\n" in run.config.read_text()


def test_a_run_of_steps_is_not_resumed_for_more(tmp_path: Path) -> None:
    train(tiny(digits_folder(), steps=2, augment="none"), tmp_path / "run", console=silent())
    with pytest.raises(RunError, match="this run has finished its 2 steps"):
        resume(tmp_path / "run")
    with pytest.raises(RunError, match=r"this run has epochs 2; it cannot be resumed with 3"):
        resume(tmp_path / "run", given={"epochs": 3})
    with pytest.raises(RunError, match=r"this run has steps 2; it cannot be resumed with 9"):
        resume(tmp_path / "run", given={"steps": 9})


def test_a_run_that_stops_in_validation_takes_no_further_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last epoch is shorter than the others; the checkpoint is of its end."""
    config = tiny(digits_folder(), steps=4, save_every=0, augment="none")
    with monkeypatch.context() as patched:
        validate = TrainingLoop.validate

        def stopped(self: TrainingLoop) -> dict[str, float]:
            if self.steps == 4:
                raise KeyboardInterrupt
            return validate(self)

        patched.setattr(TrainingLoop, "validate", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "parts", console=silent())
    run = resume(tmp_path / "parts", console=silent()).run
    assert [row["step"] for row in history(run)] == ["3", "4"]
    whole = train(config, tmp_path / "whole", console=silent()).run
    assert run.weights("last").read_bytes() == whole.weights("last").read_bytes()


def test_recomputed_and_split_blocks_need_less_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fits(memory: float, **settings: object) -> bool:
        monkeypatch.setattr(limits, "this_machine", lambda _: Machine("cpu", 2, int(memory)))
        config = tiny(digits_folder(), img_size=256, batch_size=24, **settings)
        try:
            limits.check_fits(config, hexavit.models.registry.resolve("cvt_nano", img_size=(256, 256)), 24)
        except ConfigError:
            return False
        return True

    assert not fits(3e8)  # 24 times about 22 MB of activations
    assert fits(3e8, grad_checkpointing=True)
    assert not fits(1e8, grad_checkpointing=True)
    assert fits(3e8, devices=4)


def test_a_run_stopped_by_patience_continues_with_more(tmp_path: Path) -> None:
    still = {"lr": 1e-12, "freeze": 3, "augment": "none", "epochs": 4}  # the accuracy never changes
    run = train(tiny(digits_folder(), patience=1, **still), tmp_path / "run", console=silent()).run
    assert len(history(run)) == 2
    with pytest.raises(RunError, match="finished after 2 of 4 epochs, by patience 1; a larger --patience continues it"):
        resume(run.path, console=silent())
    resume(run.path, given={"patience": 2}, console=silent())
    assert len(history(run)) == 3


def test_an_interrupted_run_keeps_its_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    still = {"lr": 1e-12, "freeze": 3, "augment": "none", "epochs": 5, "patience": 3}
    _interrupted(monkeypatch, tiny(digits_folder(), **still), tmp_path / "run", 2, 1)
    assert len(history(resume(tmp_path / "run", console=silent()).run)) == 4


def test_a_run_is_resumed_from_another_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "here" / "photos", 5)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    _interrupted(monkeypatch, tiny("photos"), Path("run"), 1)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(history(resume("../here/run", console=silent()).run)) == 2


def test_a_run_is_resumed_on_images_that_were_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_folder(tmp_path / "photos", 5)
    _interrupted(monkeypatch, tiny(data), tmp_path / "run", 1)
    data.rename(tmp_path / "moved")
    with pytest.raises(DataError):
        resume(tmp_path / "run", console=silent())
    run = resume(tmp_path / "run", given={"data": str(tmp_path / "moved")}, console=silent()).run
    assert len(history(run)) == 2
    assert f"data: {tmp_path / 'moved'}\n" in run.config.read_text()


def test_a_run_of_an_earlier_version_is_not_resumed(tmp_path: Path) -> None:
    old = Path(__file__).parents[1] / "compatibility" / "v0_1" / "run"
    run = Run(shutil.copytree(old, tmp_path / "run"))
    config = yaml.safe_load(run.config.read_text())
    with pytest.raises(CheckpointError, match="an earlier version of hexavit, which cannot be resumed; to start a new"):
        resume(run.path, given={"epochs": config["epochs"] + 1}, console=silent())
    assert run.metrics.is_file()
    fine = tiny(digits_folder(), start=str(run.path), epochs=1, model=config["model"], overrides=config["overrides"])
    assert train(fine, tmp_path / "fine", console=silent()).run.weights("last").is_file()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"batch_size": 100_000_000}, "batch_size is at most 24, the number of training images, not 100000000"),
        (
            {"img_size": 100_000},
            r"a single image of 100000 x 100000 pixels takes about [\d,.]+ GB in training, and this machine has 4\.0 GB"
            r": at most (\d+) x \1 fits",
        ),
        (
            {"img_size": 1024, "batch_size": 24},
            r"24 images at a time take about [\d.]+ GB in training, and this machine has 4\.0 GB: --micro-batch (\d+)",
        ),
    ],
)
def test_a_run_that_cannot_fit_is_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], sentence: str
) -> None:
    monkeypatch.setattr(limits, "this_machine", lambda _: Machine("cpu", 2, 4_000_000_000))
    with pytest.raises(ConfigError, match=sentence) as raised:
        train(tiny(digits_folder(), **settings), tmp_path / "run", console=silent())
    assert not (tmp_path / "run").exists()
    nearest = re.findall(r"at most (\d+) x|--micro-batch (\d+)", str(raised.value))
    if nearest and nearest[0][0]:  # about 350 kB of activations at 32 x 32 pixels, 16 bytes for 0.6 million parameters
        assert 2500 < int(nearest[0][0]) < 3600
    elif nearest:
        assert 7 < int(nearest[0][1]) < 12


@pytest.mark.parametrize("option", [("--img-size", "100000"), ("--batch-size", "100000000")])
def test_a_command_that_cannot_fit_prints_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", "digits", "--device", "cpu", "--out", str(out), *option]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert not out.exists()


def test_the_epochs_stay_readable_on_a_terminal() -> None:
    shown = io.StringIO()
    bar = ProgressBar(Console(file=shown, force_terminal=True, width=120))
    bar.on_start(TrainState(), steps_per_epoch=2, epochs=2)
    for epoch in (1, 2):
        state = TrainState(epoch - 1, 1, 8, 4.0, 0.5)
        bar.on_step(state, 0.5, 0.1)
        bar.on_epoch({"epoch": epoch, "train_loss": 0.5, "loss": 0.4, "accuracy": 0.75, "images_per_second": 16.0})
    bar.on_end(failed=False)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue()).replace("\r", "\n").splitlines()
    epochs = [line for line in lines if "validation loss 0.400  accuracy 75.00%" in line]
    assert [line[:9] for line in epochs] == ["epoch 1/2", "epoch 2/2"]


def test_weights_of_another_family_are_an_error(tmp_path: Path) -> None:
    hexavit.save_pretrained(hexavit.create_model("swin_nano"), tmp_path / "swin")
    with pytest.raises(HexavitError, match=r"of swin_nano, and only \d+% of cvt_nano would be loaded; use --model"):
        train(tiny(digits_folder(), start=str(tmp_path / "swin")), tmp_path / "run", console=silent())
    assert not (tmp_path / "run").exists()
