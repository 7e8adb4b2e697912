from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.using import silent, tiny

import hexavit
from hexavit.errors import HexavitError
from hexavit.training import train
from hexavit.training.loop.optimizer import parameter_groups
from hexavit.training.setup import drop_path_edits

MODELS = ("cvt_nano", "vit_tiny_patch16_224", "deit_nano", "cait_nano")


def rates(model: Any, **settings: object) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay by name."""
    groups = parameter_groups(model, tiny("digits", **settings))
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}


@pytest.mark.parametrize("name", MODELS)
def test_norms_biases_and_position_tables_do_not_decay(name: str) -> None:
    model = hexavit.create_model(name, num_classes=2, img_size=32)
    found = rates(model, weight_decay=0.3, layer_decay=0.5)
    assert set(found) == {name for name, _ in model.named_parameters()}
    for key, parameter in model.named_parameters():
        free = parameter.ndim <= 1 or key in model.no_weight_decay()
        assert found[key][1] == (0 if free else 0.3), key


def test_all_parameters_have_the_same_rate_by_default() -> None:
    groups = parameter_groups(hexavit.create_model("cvt_nano"), tiny("digits", lr=0.01))
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(0.01, 0.0), (0.01, 0.05)]


@pytest.mark.parametrize("name", MODELS)
def test_layer_decay_lowers_the_rate_of_earlier_layers(name: str) -> None:
    model = hexavit.create_model(name, num_classes=2, img_size=32)
    found = {key: rate for key, (rate, _) in rates(model, lr=1e-3, layer_decay=0.5, head_lr=8.0).items()}
    heads = tuple(f"head.{each}." for each in model.head.classifiers)
    assert {rate for key, rate in found.items() if key.startswith(heads)} == {8e-3}
    body = [rate for key, rate in found.items() if not key.startswith(heads)]
    assert max(found.values()) == 8e-3
    assert max(body) == 1e-3
    blocks = [(s, b) for s, stage in enumerate(model.stages) for b in range(len(stage.blocks))]
    by_block = [{rate for key, rate in found.items() if key.startswith(f"stages.{s}.blocks.{b}.")} for s, b in blocks]
    assert all(len(each) == 1 for each in by_block)
    order = [min(each) for each in by_block]
    assert order == sorted(order)
    assert order[-1] == pytest.approx(1e-3)
    assert all(after >= 2 * before * (1 - 1e-9) for before, after in pairwise(order))
    stem = next(rate for key, rate in found.items() if key.startswith("stages.0.tokens."))
    assert stem == pytest.approx(order[0] / 2)


def test_the_first_group_has_the_rate_of_the_settings() -> None:
    groups = parameter_groups(hexavit.create_model("cvt_nano"), tiny("digits", lr=1e-3, layer_decay=0.5, head_lr=4.0))
    assert groups[0]["lr"] == 1e-3
    assert groups[-1]["lr"] == 4e-3


def test_more_frozen_stages_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(HexavitError, match="freeze is at most 3 for this model, the number of its stages, not 4"):
        train(tiny("digits", freeze=4), tmp_path / "run", console=silent())
    assert not (tmp_path / "run").exists()


def test_drop_path_applies_to_the_stages_that_have_it() -> None:
    assert drop_path_edits(tiny("digits", model="cvt_13", drop_path=0.3)) == ("stages.2.drop_path=0.3",)
    assert drop_path_edits(tiny("digits")) == ()
