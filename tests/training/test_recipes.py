"""The recipes that the package ships: their headers, their settings, and two steps of each on a few digits."""

import csv
from pathlib import Path
from typing import Any

import pytest
from tests.slow import mostly_slow
from tests.using import digits_folder, trained

from hexavit.cli import main
from hexavit.training import TrainConfig
from hexavit.training.config import ConfigError, read_recipe, settings
from hexavit.training.recipes import list_recipes, load_recipe

NANO = {"deit-distilled": "deit_nano", "pvt": "pvt_v2_nano", "t2t": "t2t_vit_nano"}
"""Small models of the recipes' families, by the beginning of the recipe; others are the first word and ``_nano``."""
WITHOUT_MODEL = ("digits", "fine-tune", "linear-probe", "quick", "small-data")
NAMES = [each.name for each in list_recipes()]
QUICK = ("deit-imagenet", "cvt-transfer-cifar", "linear-probe")


def test_the_recipes_of_the_papers_are_there() -> None:
    papers = {"deit-imagenet", "deit-distilled-imagenet", "cvt-imagenet", "cvt-imagenet22k", "pvt-v2-imagenet"}
    papers |= {f"cvt-transfer-{data}" for data in ("imagenet", "cifar", "pets-flowers")}
    papers |= {"swin-imagenet", "t2t-imagenet", "cait-imagenet", "lvvit-imagenet"}
    assert papers | set(WITHOUT_MODEL) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_header_tells_what_a_reader_wants_to_know(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.purpose.endswith((".", ";")), recipe.purpose
    assert recipe.command.startswith("hexavit train ")
    assert f"--config {name} " in recipe.command
    assert {"hardware", "published", "measured"} <= recipe.facts.keys()
    assert recipe.facts.keys() <= {"hardware", "time", "published", "measured", "source", "note", "try"}
    assert TrainConfig.from_mapping({"model": "cvt_nano", "data": "digits", **read_recipe(name)})


@pytest.mark.parametrize("name", [each for each in NAMES if each not in WITHOUT_MODEL])
def test_a_recipe_of_a_paper_leaves_nothing_to_choose(name: str) -> None:
    from hexavit.training.auto_config.rules import AUTOMATIC_SETTINGS

    assert read_recipe(name).keys() >= AUTOMATIC_SETTINGS


@pytest.mark.parametrize("name", mostly_slow(NAMES, QUICK.__contains__))
@pytest.mark.usefixtures("one_thread")
def test_a_recipe_takes_two_steps(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, out = read_recipe(name), tmp_path / "run"
    given: dict[str, Any] = {"steps": 2, "img-size": 32, "batch-size": 8, "workers": 0, "precision": "float32"}
    given |= {"device": "cpu", "model": "cvt_nano"}
    if name not in WITHOUT_MODEL:
        family = next((nano for begin, nano in NANO.items() if name.startswith(begin)), None)
        given["model"] = family or f"{name.split('-')[0]}_nano"
    if name in ("fine-tune", "linear-probe") or name.startswith("cvt-transfer"):
        given["from"] = trained().path
    if "teacher" in recipe:
        given["teacher"] = trained().path
    options = [f"--{option}={value}" for option, value in given.items()]
    assert main(["train", str(digits_folder()), "--config", name, "--out", str(out), *options]) == 0
    printed = capsys.readouterr().out
    if "lr_batch" in recipe:
        assert f"learning rate {recipe['lr'] * 8 / recipe['lr_batch']:g} = " in printed
    saved = read_recipe(out / "config.yaml")
    kept = recipe.keys() - {option.replace("-", "_") for option in given} - {"data"}
    assert {option: saved[option] for option in kept} == {option: recipe[option] for option in kept}
    with (out / "metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2"]


def test_a_recipe_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"there is no recipe 'deit-imagenett': did you mean 'deit-imagenet'\?"):
        read_recipe("deit-imagenett")
    with pytest.raises(ConfigError, match=r"nothing\.yaml: this recipe cannot be read"):
        read_recipe("nothing.yaml")


def test_a_file_comes_before_a_recipe_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("quick").write_text("epochs: 7\n")
    assert read_recipe("quick") == {"epochs": 7}
    Path("digits").mkdir()
    assert read_recipe("digits")["model"] == "cvt_nano"


def test_the_command_lists_and_shows_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    printed = capsys.readouterr().out
    assert all(f"{name}\n  " in printed for name in NAMES)
    assert printed.count("measured   not measured") == len(NAMES) - 1
    assert main(["recipes", "swin-imagenet"]) == 0
    assert "clip_grad: 5.0" in capsys.readouterr().out
    assert main(["recipes", "swim"]) == 2
    assert "there is no recipe 'swim'" in capsys.readouterr().err


def test_every_setting_of_the_recipes_is_described_in_the_help() -> None:
    used = {setting for name in NAMES for setting in read_recipe(name)}
    assert used <= settings().keys()
