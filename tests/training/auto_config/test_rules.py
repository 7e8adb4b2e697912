from dataclasses import asdict, replace
from math import inf
from pathlib import Path
from typing import Any

import pytest

import hexavit
from hexavit.architecture import Architecture
from hexavit.duration import in_words
from hexavit.models import resolve
from hexavit.profiling import profile
from hexavit.training.auto_config.fact_types import Candidate, DataFacts, Facts, Machine, StartingWeights
from hexavit.training.auto_config.rules import (
    AUTOMATIC_SETTINGS,
    AVERAGED,
    CAPACITY,
    LEARNING_RATES,
    SCHEDULES,
    SIDES,
    SMALL_MODELS,
    SMALL_STRENGTHS,
    STRENGTHS,
    UNBALANCED,
    ModelCost,
    choose_settings,
    model_cost,
)
from hexavit.training.config import TrainConfig, read_recipe
from hexavit.training.demo import RECIPE
from hexavit.training.limits import check_fits

CPU = Machine("cpu", cores=2, memory=16 << 30)
GPU = Machine("cuda", cores=16, memory=128 << 30, device_memory=80 << 30, bfloat16=True)
DIGITS = DataFacts(1438, 10, 1, 32, (32, 32), mirrored=False)
PHOTOS = DataFacts(5000, 10, 3, 500)
MODELS = (
    Candidate("cvt_nano", 32),
    Candidate("ceit_nano", 32),
    Candidate("ceit_tiny_patch16_224", 224, 6.4, 1.2e9, 0.764),
    Candidate("cvt_13", 224, 20, 4.5e9, 0.816),
    Candidate("cvt_21", 224, 32, 7.1e9, 0.825),
)
SMALL_OBJECTS = DataFacts(10_000, 10, 1, 28)
SIZES = {
    "fine_nano": (0.8, 22e6, 2e6),
    "nano": (0.6, 4e6, 4e5),
    "tiny": (6.4, 1.2e9, 6e7),
    "_13": (20, 4.5e9, 9e7),
    "_21": (32, 7.1e9, 1.5e8),
}


def roughly(architecture: Architecture) -> ModelCost:
    """A model's cost in round figures, without counting it."""
    millions, macs, kept = next(cost for part, cost in SIZES.items() if part in architecture.name)
    side = 32 if "nano" in architecture.name else 224
    share = architecture.img_size[0] * architecture.img_size[1] / side**2
    return ModelCost(int(millions * 1e6), int(macs * share) + len(architecture.name), int(kept * share))


def chosen(data: DataFacts, machine: Machine, weights: StartingWeights | None = None, **given: Any) -> TrainConfig:
    return choose_settings(Facts(data, machine, MODELS, weights), {"data": "data", **given}, roughly)[0]


def test_small_images_get_a_small_model_at_their_size() -> None:
    config = chosen(DIGITS, CPU)
    assert (config.model, config.img_size, config.in_chans) == ("cvt_nano", (32, 32), 1)
    assert (config.augment, config.mixup, config.cutmix, config.erasing) == ("shift", 0, 0, 0)
    assert chosen(replace(PHOTOS, side=50), CPU).img_size == (64, 64)


def test_small_objects_are_mirrored_and_in_longer_runs_shifted_but_not_cropped() -> None:
    config = chosen(SMALL_OBJECTS, CPU)
    assert (config.model, config.img_size, config.in_chans) == ("cvt_fine_nano", (32, 32), 1)
    assert (config.augment, config.erasing, config.mixup, config.cutmix) == ("mirror", 0.25, 0.2, 0)
    assert config.epochs == 10
    assert config.ema == 0.99
    assert chosen(SMALL_OBJECTS, CPU, batch_size=128).ema == 0  # 781 steps
    assert chosen(SMALL_OBJECTS, CPU, ema=0.9).ema == 0.9
    assert chosen(replace(SMALL_OBJECTS, images=60_000), CPU).augment == "mirror"
    assert chosen(replace(SMALL_OBJECTS, images=60_000), CPU, epochs=20).augment == "flip"
    assert chosen(replace(SMALL_OBJECTS, images=60_000), CPU, epochs=20).ema == 0
    assert chosen(replace(SMALL_OBJECTS, images=60_000), GPU, epochs=300).augment == "rand"
    assert chosen(replace(SMALL_OBJECTS, mirrored=False), CPU).augment == "shift"
    assert chosen(SMALL_OBJECTS, CPU, augment="none").augment == "none"
    assert chosen(replace(PHOTOS, images=500), CPU).augment == "crop"


def test_unbalanced_classes_are_balanced_with_a_reason() -> None:
    def balanced(data: DataFacts, **given: Any) -> tuple[str, list[str]]:
        config, reasons = choose_settings(Facts(data, CPU, MODELS), {"data": "data", **given}, roughly)
        return config.balance, [line for line in reasons if line.startswith("balance")]

    assert balanced(replace(DIGITS, imbalance=9.9)) == ("none", [])
    many = "the most frequent class has 12 times as many images as the rarest; "
    weights = "balance weights: " + many + "the loss weights classes by the inverse of their number of images"
    assert balanced(replace(DIGITS, imbalance=12.0)) == ("weights", [weights])
    drawn = "balance sampler: " + many + "images of rare classes are drawn more often"
    assert balanced(replace(DIGITS, imbalance=12.0, multilabel=True)) == ("sampler", [drawn])
    assert balanced(replace(DIGITS, imbalance=12.0), mix_token=True) == ("sampler", [drawn])
    assert balanced(replace(DIGITS, imbalance=12.0), balance="none") == ("none", [])


def test_several_classes_are_not_smoothed() -> None:
    assert chosen(replace(PHOTOS, multilabel=True), CPU).label_smoothing == 0.0
    assert chosen(PHOTOS, CPU).label_smoothing == 0.1


def test_photographs_get_what_the_time_allows() -> None:
    slow, quick = chosen(PHOTOS, CPU), chosen(PHOTOS, GPU)
    assert (slow.model, slow.img_size) == ("ceit_tiny_patch16_224", (96, 96))
    assert (quick.model, quick.img_size) == ("cvt_13", (224, 224))  # cvt_21 has too many parameters for so few
    assert chosen(replace(PHOTOS, images=50_000), GPU).model == "cvt_21"
    assert quick.epochs > slow.epochs
    assert slow.batch_size < quick.batch_size
    assert chosen(replace(PHOTOS, side=150), GPU).img_size == (160, 160)  # nothing is gained by blowing them up


def test_the_more_is_shown_the_more_is_varied() -> None:
    light, medium = chosen(replace(PHOTOS, images=500), CPU), chosen(PHOTOS, GPU)
    strong = chosen(replace(PHOTOS, images=1_281_167), GPU)
    assert [each.augment for each in (light, medium, strong)] == ["crop", "rand", "rand"]
    for name in ("mixup", "erasing", "drop_path"):
        values = [getattr(each, name) for each in (light, medium, strong)]
        assert values == sorted(set(values)), name
    assert (strong.magnitude, strong.mixup, strong.cutmix, strong.erasing) == (9, 0.8, 1.0, 0.25)


def test_none_is_none_at_all() -> None:
    config = chosen(PHOTOS, GPU, augment="none")
    assert (config.augment, config.erasing, config.mixup) == ("none", 0, 0)


def test_the_precision_is_the_machines() -> None:
    found = [chosen(PHOTOS, m).precision for m in (CPU, Machine("mps", 8, 16 << 30), GPU, replace(GPU, bfloat16=False))]
    assert found == ["float32", "float32", "bfloat16", "float16"]


def test_the_batch_fits_the_memory() -> None:
    usual = chosen(PHOTOS, GPU, model="cvt_21").batch_size
    tight = chosen(PHOTOS, replace(GPU, device_memory=4 << 30), model="cvt_21").batch_size
    assert usual == 128  # 5,000 / 20, down to a power of two
    assert tight < 32
    assert tight & (tight - 1) == 0
    assert chosen(replace(PHOTOS, images=30), CPU).batch_size == 8
    assert chosen(replace(PHOTOS, images=5), CPU).batch_size == 4


def test_fine_tuning_is_slower_shorter_and_by_layers() -> None:
    start = StartingWeights("cvt_13", (), (224, 224), 3, 1000)
    scratch, fine = chosen(PHOTOS, GPU), chosen(PHOTOS, GPU, start, start="cvt_13")
    assert (fine.model, fine.img_size, fine.in_chans) == ("cvt_13", (224, 224), 3)
    assert fine.lr * fine.head_lr > fine.lr
    assert fine.layer_decay == 0.75
    assert fine.epochs < scratch.epochs
    assert fine.lr <= scratch.lr
    assert (scratch.layer_decay, scratch.head_lr) == (1.0, 1.0)
    assert chosen(PHOTOS, GPU, replace(start, classes=10), start="run").head_lr == 1.0  # the head is loaded too
    assert chosen(PHOTOS, CPU, start, start="cvt_13").img_size == (96, 96)


def test_weights_bring_their_edits_channels_and_size() -> None:
    start = StartingWeights("cvt_nano", ("head=pool",), (48, 48), 3, 10)
    config = chosen(DIGITS, CPU, start, start="run")
    assert (config.overrides, config.img_size, config.in_chans) == (("head=pool",), (48, 48), 3)
    other = chosen(DIGITS, CPU, start, start="run", model="ceit_nano")
    assert (other.overrides, other.img_size) == ((), (32, 32))


def test_what_is_given_stands_and_is_not_named() -> None:
    given = {"model": "cvt_nano", "lr": 0.3, "epochs": 7, "batch_size": 3, "augment": "none", "in_chans": 3}
    config, reasons = choose_settings(Facts(DIGITS, CPU, MODELS), {"data": "digits", **given}, roughly)
    assert {name: getattr(config, name) for name in given} == given
    assert config.warmup_epochs == pytest.approx(0.7)
    named = {
        name for line in reasons for name in AUTOMATIC_SETTINGS if line.startswith(name + " ") or f", {name} " in line
    }
    assert not named & set(given)
    assert {"img_size", "weight_decay", "precision"} <= named


@pytest.mark.parametrize(("data", "machine"), [(DIGITS, CPU), (PHOTOS, CPU), (PHOTOS, GPU)])
def test_nothing_is_chosen_anew_from_a_run(tmp_path: Path, data: DataFacts, machine: Machine) -> None:
    config = chosen(data, machine)
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    recipe = read_recipe(tmp_path / "config.yaml")
    assert recipe.keys() >= AUTOMATIC_SETTINGS
    other = Facts(replace(data, images=77), GPU if machine is CPU else CPU, MODELS)
    assert choose_settings(other, recipe, roughly) == (config, ())


def test_the_recipe_of_the_digits_is_completed_as_it_was_measured() -> None:
    recipe = read_recipe("digits")
    config, _ = choose_settings(Facts(DIGITS, CPU, MODELS), recipe, roughly)
    same = {"img_size": (32, 32), "in_chans": 1, "augment": "shift", "erasing": 0.0}  # what these come to
    assert asdict(config) == {**asdict(RECIPE), **same}


def test_a_guess_is_kept_below_the_hour() -> None:
    lines = choose_settings(Facts(PHOTOS, CPU, MODELS), {"data": "photos"}, roughly)[1]
    assert any(line.startswith("epochs ") and "limited to 10 min" in line for line in lines)


def test_durations() -> None:
    assert [in_words(s) for s in (36, 99, 720, 5399, 5400 * 4, 3 * 86400)] == [
        "36 s",
        "99 s",
        "12 min",
        "90 min",
        "6.0 h",
        "3.0 days",
    ]


STRENGTH_ROWS = """
| up to 200,000 | `crop` | | 0 | 0 | 0 | 0 |
| up to 20,000,000 | `rand` | 7 | 0.1 | 0.2 | 0 | 0.05 |
| more | `rand` | 9 | 0.25 | 0.8 | 1 | 0.1 |
"""


def test_the_page_shows_the_values_of_the_tables() -> None:
    """Both the code and the page are compared with the values written here."""
    page = (Path(__file__).parents[3] / "docs" / "auto-config.md").read_text(encoding="utf-8")
    assert STRENGTH_ROWS in page
    names = ("augment", "magnitude", "erasing", "mixup", "cutmix", "drop_path")
    assert [(most, *(row.get(name) for name in names)) for most, _, row in STRENGTHS] == [
        (200_000, "crop", None, 0, 0, 0, 0),
        (20_000_000, "rand", 7, 0.1, 0.2, 0, 0.05),
        (inf, "rand", 9, 0.25, 0.8, 1, 0.1),
    ]
    assert "`cvt_nano` for up to 2,000 images, else [`cvt_fine_nano`]" in page
    assert ((2_000, "cvt_nano"), (inf, "cvt_fine_nano")) == SMALL_MODELS
    assert "get `augment=mirror` with erasing 0.25 and Mixup 0.2 up to 1,000,000 shown" in page
    assert "and `flip` without both up to 2,000,000" in page
    assert [(most, *(row.get(name) for name in names)) for most, _, row in SMALL_STRENGTHS] == [
        (1_000_000, "mirror", None, 0.25, 0.2, 0, 0),
        (2_000_000, "flip", None, 0, 0, 0, 0),
    ]
    assert "With `mirror` and at least 1,000 steps, `ema` is 0.99" in page
    assert AVERAGED == (1_000, 0.99)
    assert "at least ten times as many images as the rarest" in page
    assert UNBALANCED == 10
    assert "0.002 up to 2 M parameters, 0.0005 up to 10 M, else 0.00025" in page
    assert ((2, 0.002), (10, 0.0005), (inf, 0.00025)) == LEARNING_RATES
    assert "224, 160, 128, 96" in page
    assert SIDES == (224, 160, 128, 96)
    assert "at most 10 M up to 2,000 images, 30 M up to 20,000, 60 M up to 200,000" in page
    assert CAPACITY == ((2_000, 10), (20_000, 30), (200_000, 60))
    assert "1,000 steps on a CPU, in 20 to 100 epochs; 10,000 on an accelerator, in 30 to 300" in page
    assert "from weights 500 and 2,000, in 10 to 50; fewer if the time limit requires it" in page
    assert "but at least 10, 30, 3 and 10" in page
    assert {key: tuple(each) for key, each in SCHEDULES.items()} == {
        (False, False): (1_000, 20, 100, 10),
        (False, True): (500, 10, 50, 3),
        (True, False): (10_000, 30, 300, 30),
        (True, True): (2_000, 10, 50, 10),
    }


def test_a_model_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules, memory check and time estimate ask for the same model; its drop path may differ."""
    counted = []

    def count(architecture: Architecture) -> hexavit.Profile:
        counted.append(architecture.name)
        return profile(architecture)

    monkeypatch.setattr("hexavit.profiling.profile", count)
    architecture = resolve("cvt_nano", num_classes=7)
    config, _ = choose_settings(Facts(replace(DIGITS, classes=7), CPU, MODELS), {"data": "data", "model": "cvt_nano"})
    sized = resolve("cvt_nano", num_classes=7, in_chans=1, img_size=32, overrides=["stages.2.drop_path=0.3"])
    check_fits(config, sized, 1438)
    assert model_cost(sized).macs == profile(sized).macs
    assert counted == ["cvt_nano"]
    assert model_cost(architecture).macs > model_cost(sized).macs  # another number of channels is counted anew
    assert counted == ["cvt_nano"] * 2
