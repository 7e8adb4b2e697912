from pathlib import Path

import pytest
from PIL import Image
from tests.using import digits_folder, trained

import hexavit
from hexavit.errors import DataError, HexavitError
from hexavit.training.auto_config.fact_types import SMALL, StartingWeights
from hexavit.training.auto_config.facts import candidates, gather_facts, inspect_starting_weights, this_machine
from hexavit.training.auto_config.rules import choose_settings


def test_data_is_looked_at() -> None:
    facts = gather_facts({"data": "digits", "device": "cpu"}).data
    assert (facts.images, facts.classes, facts.channels, facts.size, facts.mirrored) == (1438, 10, 1, (32, 32), False)
    facts = gather_facts({"data": str(digits_folder()), "val_fraction": 0.5, "device": "cpu"}).data
    assert (facts.images, facts.classes, facts.side, facts.mirrored) == (15, 3, 8, True)
    assert (facts.channels, facts.imbalance, facts.multilabel) == (1, 1.0, False)


@pytest.mark.parametrize(
    ("mode", "colour", "channels"),
    [("L", 90, 1), ("1", 1, 1), ("RGB", (90, 90, 90), 1), ("RGBA", (90, 90, 90, 20), 1), ("RGB", (90, 91, 90), 3)],
)
def test_grey_images_stay_grey(tmp_path: Path, mode: str, colour: object, channels: int) -> None:
    """Whatever the file stores; a single image in colour is enough for three channels."""
    for label, count in (("first", 9), ("second", 3)):
        (tmp_path / label).mkdir()
        for number in range(count):
            Image.new("L", (30, 20), number).save(tmp_path / label / f"{number}.png")
    Image.new(mode, (30, 20), colour).save(tmp_path / "first" / "last.png")  # type: ignore[arg-type]
    facts = gather_facts({"data": str(tmp_path), "val_fraction": 0.1, "device": "cpu"}).data
    assert (facts.channels, facts.side) == (channels, 20)
    assert facts.imbalance == 9 / 2


def test_classes_named_by_a_character_are_not_mirrored(tmp_path: Path) -> None:
    for label in "3A":
        for number in range(3):
            (tmp_path / label).mkdir(exist_ok=True)
            Image.new("L", (28, 28), number).save(tmp_path / label / f"{number}.png")
    given = {"data": str(tmp_path), "device": "cpu"}
    assert not gather_facts(given).data.mirrored
    (tmp_path / "A").rename(tmp_path / "ankle boot")
    assert gather_facts(given).data.mirrored


def test_the_size_is_that_of_the_readable(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(5):
            Image.new("RGB", (200 + number, 100)).save(tmp_path / label / f"{number}.png")
    (tmp_path / "a" / "0.png").write_bytes(b"")
    assert gather_facts({"data": str(tmp_path), "device": "cpu"}).data.side == 100


def test_the_machine() -> None:
    machine = this_machine("cpu")
    assert machine.device == "cpu"
    assert machine.cores >= 1
    assert machine.memory > 1 << 28


def test_candidates_learn_from_labels_and_have_convolutions() -> None:
    found = {each.name: each for each in candidates()}
    assert {"cvt_13", "cvt_nano", "ceit_tiny_patch16_224"} <= set(found)
    assert not {"deit_nano", "lvvit_nano", "deit_small_patch16_224", "cvt_w24"} & set(found)
    assert all(each.side <= SMALL or (each.top1 > 0.5 and each.macs > 1e8) for each in found.values())
    counted = hexavit.profile("cvt_13").macs
    assert found["cvt_13"].macs == pytest.approx(counted, rel=0.05)
    for name in ("cpvt_small", "localvit_tiny_mlp4_act3_r192"):  # whose authors print no multiply-adds
        assert found[name].macs == pytest.approx(hexavit.profile(name).macs, rel=0.15)


def test_the_weights_at_hand(tmp_path: Path) -> None:
    assert inspect_starting_weights(str(trained().path)) == StartingWeights("cvt_nano", (), (32, 32), 3, 3)
    assert inspect_starting_weights("cvt_13.in1k_384") == StartingWeights("cvt_13", (), (384, 384), 3, 1000)
    place = hexavit.save_pretrained(trained().model(), tmp_path / "saved", class_names=trained().classes())
    assert inspect_starting_weights(str(place)) == StartingWeights("cvt_nano", (), (32, 32), 3, 3)
    file = inspect_starting_weights(str(trained().weights("best")))
    assert (file.model, file.channels, file.classes) == ("cvt_nano", 3, 3)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"start": "cvt_31"}, "cvt_31: there is no such run folder, file or model to start from: did you mean"),
        ({"device": "mps"}, "this machine has no device 'mps'"),
        ({"in_chans": 2}, "the model takes 2 channels"),
        ({"data": "nowhere"}, "nowhere: this data is neither"),
    ],
)
def test_errors(given: dict[str, object], sentence: str) -> None:
    with pytest.raises((HexavitError, DataError), match=sentence):
        gather_facts({"data": "digits", **given})


def test_a_run_is_fine_tuned_as_it_was() -> None:
    given = {"data": str(digits_folder()), "start": str(trained().path), "device": "cpu"}
    config, reasons = choose_settings(gather_facts(given), given)
    assert (config.model, config.img_size, config.head_lr, config.layer_decay) == ("cvt_nano", (32, 32), 1.0, 0.75)
    assert reasons[0] == "model cvt_nano, img_size 32 x 32: of the initial weights"
