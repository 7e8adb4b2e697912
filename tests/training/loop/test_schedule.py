import pytest
import torch
from tests.using import tiny
from timm.scheduler import create_scheduler_v2

import hexavit
from hexavit.training.loop.optimizer import make_optimizer
from hexavit.training.loop.schedule import scheduled_factor, set_learning_rate, total_epochs, total_steps


def factors(steps: range, steps_per_epoch: int, **settings: object) -> list[float]:
    config = tiny("digits", **settings)
    return [scheduled_factor(step, config, steps_per_epoch) for step in steps]


def test_the_learning_rate_rises_and_falls() -> None:
    rates = factors(range(13), 4, epochs=3, warmup_epochs=1)
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[8] == pytest.approx(0.5)
    assert rates[10] == pytest.approx(0.1464466)  # (1 + cos(3 pi / 4)) / 2
    assert rates[12] == pytest.approx(0)


def test_a_run_of_steps_ends_within_an_epoch() -> None:
    config = tiny("digits", steps=10, warmup_steps=2)
    assert (total_steps(config, 4), total_epochs(config, 4)) == (10, 3)
    rates = [scheduled_factor(step, config, 4) for step in range(11)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert (rates[6], rates[10]) == (pytest.approx(0.5), pytest.approx(0))


RATE = {"lr": 1e-3, "epochs": 30}


@pytest.mark.parametrize(
    ("settings", "timm"),
    [
        (
            {"schedule": "epoch_cosine", "warmup_epochs": 5, "warmup_lr": 1e-6, "min_lr": 1e-5, "cooldown_epochs": 10},
            {"sched": "cosine", "num_epochs": 20, "warmup_epochs": 5, "warmup_lr": 1e-6, "min_lr": 1e-5},
        ),
        (
            {"schedule": "cosine", "warmup_epochs": 5, "warmup_lr": 1e-6, "min_lr": 1e-5},
            {
                **{"sched": "cosine", "num_epochs": 25, "warmup_epochs": 5, "warmup_lr": 1e-6, "min_lr": 1e-5},
                **{"step_on_epochs": False, "warmup_prefix": True},
            },
        ),
        (
            {"schedule": "step", "warmup_epochs": 3, "warmup_lr": 1e-6, "decay_epochs": 7, "decay_rate": 0.2},
            {
                **{"sched": "step", "num_epochs": 30, "warmup_epochs": 3, "warmup_lr": 1e-6, "decay_epochs": 7},
                **{"decay_rate": 0.2, "step_on_epochs": False},
            },
        ),
    ],
)
def test_the_rates_are_those_of_timms_schedulers(settings: dict[str, object], timm: dict[str, object]) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    scheduler, _ = create_scheduler_v2(optimizer, updates_per_epoch=4, **timm)  # type: ignore[arg-type]
    assert scheduler is not None
    for step, factor in enumerate(factors(range(120), 4, **RATE, **settings)):
        scheduler.step(step // 4)
        scheduler.step_update(step)
        assert 1e-3 * factor == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6), step


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
