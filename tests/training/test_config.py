from dataclasses import asdict
from pathlib import Path

import pytest

from hexavit.training.config import ConfigError, TrainConfig, read_recipe

MINIMUM = {"model": "cvt_nano", "data": "digits"}


def test_a_config_is_read_as_it_was_written(tmp_path: Path) -> None:
    config = TrainConfig.from_mapping({**MINIMUM, "img_size": 48, "overrides": ["head=pool"], "lr": 1e-5, "seed": 7})
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    assert TrainConfig.from_mapping(read_recipe(tmp_path / "config.yaml")) == config
    assert config.img_size == (48, 48)


def test_a_config_in_python_is_checked_too() -> None:
    assert TrainConfig(**MINIMUM, img_size=48, overrides=["head=pool"]).img_size == (48, 48)
    with pytest.raises(ConfigError, match="epochs is a whole number, not 'ten'"):
        TrainConfig(**MINIMUM, epochs="ten")


def test_a_number_without_a_point_is_read_as_one(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("lr: 1e-4\nclip_grad: 1\n")
    assert read_recipe(tmp_path / "recipe.yaml") == {"lr": 1e-4, "clip_grad": 1.0}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"epochz": 3}, "there is no setting 'epochz': did you mean 'epochs'?"),
        ({"epochs": "ten"}, "epochs is a whole number, not 'ten'"),
        ({"epochs": 1.5}, "epochs is a whole number, not 1.5"),
        ({"epochs": True}, "epochs is a whole number, not True"),
        ({"lr": "fast"}, "lr is a number, not 'fast'"),
        ({"img_size": [1, 2, 3]}, "img_size is one whole number or two, not [1, 2, 3]"),
        ({"augment": "much"}, "augment is one of auto, none, mirror, shift, flip, crop, rand, not 'much'"),
        ({"overrides": "head=pool"}, "overrides is a list of text, not 'head=pool'"),
        ({"model": None}, "model is text, not None"),
        ({"epochs": 0}, "epochs is at least 1, not 0"),
        ({"lr": 0}, "lr is above 0, not 0.0"),
        ({"mixup": -1}, "mixup is at least 0, not -1.0"),
        ({"weight_decay": float("nan")}, "weight_decay is a finite number, not nan"),
        ({"label_smoothing": 1}, "label_smoothing is at least 0 and below 1, not 1.0"),
        ({"val_fraction": 1}, "val_fraction is between 0 and 1, not 1.0"),
        ({"layer_decay": 0}, "layer_decay is above 0 and at most 1, not 0.0"),
        ({"head_lr": 0}, "head_lr is above 0, not 0.0"),
        ({"freeze": -2}, "freeze is at least -1, not -2"),
        ({"steps": 0}, "steps is at least 1, not 0"),
        ({"optimizer": "adamm"}, "there is no optimizer 'adamm': did you mean 'adam'?"),
        (
            {"optimizer_options": ["momentum"]},
            "optimizer_options are NAME=VALUE each, such as momentum=0.9, not 'momentum'",
        ),
        ({"min_lr": 0.1}, "min_lr is at most lr, 0.001, not 0.1"),
        ({"min_lr": 1e-5, "schedule": "constant"}, "min_lr is of a cosine schedule, not of constant"),
        ({"schedule": "exponential"}, "schedule exponential needs warmup_lr above 0, the rate that it begins with"),
        ({"cooldown_epochs": 1, "schedule": "step"}, "cooldown_epochs is of a cosine schedule, not of step"),
        (
            {"augment": "shift", "color_jitter": 0.1},
            "color_jitter and random interpolation need augment crop or rand, not shift",
        ),
        (
            {"balance": "sampler", "repeats": 3},
            "balance sampler cannot be combined with repeats: use balance weights, or repeats 1",
        ),
        ({"augment": "crop", "policy": "rand-m5"}, "policy needs augment rand, not crop"),
        ({"shard": True, "precision": "float16"}, "shard needs precision float32 or bfloat16, not float16"),
        ({"shard": True, "optimizer": "lamb"}, "shard needs optimizer adam, adamw, momentum or sgd, not lamb"),
        ({"erasing": 2}, "erasing is between 0 and 1, not 2.0"),
        ({"drop_path": 1}, "drop_path is at least 0 and below 1, not 1.0"),
        ({"img_size": [32, 0]}, "img_size is at least 1, not 0"),
    ],
)
def test_an_invalid_setting_is_an_error(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as raised:
        TrainConfig.from_mapping({**MINIMUM, **settings})
    assert str(raised.value) == sentence


def test_missing_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="training needs model and data: pass --model and --data"):
        TrainConfig.from_mapping({})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [("- a\n- b", "a recipe is a list of"), ("a: [", "is not YAML"), ("epoch: 3", "did you mean 'epochs'")],
)
def test_an_invalid_recipe_is_named(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "recipe.yaml").write_text(content)
    with pytest.raises(ConfigError, match=rf"recipe\.yaml: .*{sentence}"):
        read_recipe(tmp_path / "recipe.yaml")


def test_the_recipe_of_the_digits_equals_that_of_the_demo() -> None:
    from hexavit.training.demo import RECIPE

    assert asdict(TrainConfig.from_mapping(read_recipe("digits"))) == asdict(RECIPE)
