from pathlib import Path

import pytest
from tests.using import digits_folder, silent, tiny

from hexavit.cli import main
from hexavit.errors import HexavitError
from hexavit.training import lr_finder
from hexavit.training.loop.train_state import TrainState
from hexavit.training.lr_finder import find_learning_rate


@pytest.mark.usefixtures("one_thread")
def test_the_rate_at_which_the_loss_falls_fastest_is_suggested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lr_finder, "STEPS", 40)
    config = tiny(
        digits_folder(), overrides=["stages.*.depth=1"], lr=5.0, lr_batch=64, min_lr=1.0, ema=0.9, augment="none"
    )
    found = find_learning_rate(config, console=silent())
    assert found.rates[0] == pytest.approx(1e-7)
    assert all(one < other for one, other in zip(found.rates, found.rates[1:], strict=False))
    assert 1e-6 < found.suggestion < 0.5
    assert min(found.losses) < 0.95 * found.losses[0]
    assert any(found.suggestion == pytest.approx(rate, rel=0.05) for rate in found.rates)


def test_the_losses_are_averaged_as_lightning_does(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = lr_finder._Losses()
    for loss in (2.0, 1.0, 4.0):
        listener.on_step(TrainState(), loss, 0.0)
    weights = [0.98**2, 0.98, 1.0]
    expected = (2.0 * weights[0] + 1.0 * weights[1] + 4.0) / sum(weights)
    assert listener.losses[-1] == pytest.approx(expected)
    with pytest.raises(lr_finder._Finished):
        listener.on_step(TrainState(), 1e4, 0.0)


def test_a_loss_that_diverges_at_once_gives_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lr_finder, "LOWEST", 1e30)
    monkeypatch.setattr(lr_finder, "HIGHEST", 1e35)
    with pytest.raises(HexavitError, match=r"no learning rate can be suggested from \d+ steps"):
        find_learning_rate(tiny(digits_folder(), clip_grad=0.0, augment="none"), console=silent())


def test_the_command_writes_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lr_finder, "STEPS", 24)
    monkeypatch.chdir(tmp_path)
    small = "--model=cvt_nano", "--batch-size=8", "--img-size=32", "--workers=0", "--device=cpu", "--optimizer=sgd"
    assert main(["train", str(digits_folder()), "--find-lr", *small]) == 0
    assert "the loss falls fastest at --lr " in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert main(["train", str(digits_folder()), "--find-lr", "--out=x", *small]) == 2
