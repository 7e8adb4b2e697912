import pytest
import torch
from tests.using import tiny

import hexavit
from hexavit.training.loop.optimizer import make_optimizer
from hexavit.training.loop.schedule import scheduled_factor, set_learning_rate, warmup_cosine


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [warmup_cosine(step, warmup=4, total=12) for step in range(13)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[8] == pytest.approx(0.5)
    assert rates[10] == pytest.approx(0.1464466)  # (1 + cos(3 pi / 4)) / 2
    assert rates[12] == pytest.approx(0)


def test_epochs_become_steps() -> None:
    config = tiny("digits", epochs=4, warmup_epochs=2)
    factors = [scheduled_factor(step, config, steps_per_epoch=2) for step in range(8)]
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors[6] == pytest.approx(0.5)


def test_every_group_follows_the_schedule() -> None:
    optimizer = make_optimizer(hexavit.create_model("cvt_nano"), tiny("digits", lr=1e-3, layer_decay=0.5))
    highest = [group["lr"] for group in optimizer.param_groups]
    assert len(set(highest)) > 2
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate / 4 for rate in highest])
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    set_learning_rate(optimizer, 1.0)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(highest)
