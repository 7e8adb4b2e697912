"""Studies as data: YAML read, crossed, written, and every wrong entry named in one sentence."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from hexavit.errors import HexavitError
from hexavit.models import resolve
from hexavit.studies import Cell, Study, StudyError, crossed
from hexavit.studies.definition import FILES, sweep

READY = sorted(path.stem for path in FILES.glob("*.yaml"))
SMALL: dict[str, Any] = {"settings": {"model": "cvt_nano", "data": "digits"}, "variants": {"a": [], "b": ["head=pool"]}}


@pytest.mark.parametrize("name", READY)
def test_each_ready_study_can_be_built(name: str) -> None:
    study = Study.read(name)
    assert study.title
    assert study.differs
    assert study.settings["train_images"] == 10_000
    for cell in study.cells:
        settings = study.train_settings(cell, 0)
        trained = resolve(settings["model"], overrides=list(settings["overrides"]))
        for test in study.tests:
            resolve(trained, img_size=test.img_size or trained.img_size, overrides=list(test.edits))
        if study.full_size is not None:
            resolve(study.full_size, overrides=list(cell.edits))


def test_axes_are_crossed_and_named_by_their_last_word() -> None:
    cells = crossed({"stages.*.attention.stride_kv": [1, 2], "lr": ["1e-3", 0.01]})
    assert cells[1] == Cell("stride_kv=1, lr=0.01", ("stages.*.attention.stride_kv=1",), {"lr": 0.01})
    assert [cell.settings["lr"] for cell in cells] == [0.001, 0.01] * 2
    twice = crossed({"stages.0.depth": [1], "stages.1.depth": [2]})
    assert twice[0].name == "stages.0.depth=1, stages.1.depth=2"


def test_a_sweep_splits_at_commas_outside_parentheses() -> None:
    found = sweep(["stages.*.attention=global(heads=2, attn_drop=0.1),performer(heads=2)", "head=pool"])
    assert found == {
        "stages.*.attention": ["global(heads=2, attn_drop=0.1)", "performer(heads=2)"],
        "head": ["pool"],
    }
    with pytest.raises(StudyError, match="--set takes PATH=VALUE"):
        sweep(["stages"])


def test_a_study_is_the_same_after_a_round_trip_through_yaml(tmp_path: Path) -> None:
    values = {
        **SMALL,
        "title": "a question",
        "tests": {"larger": {"img_size": 48, "edits": ["stages.*.position=learned"]}},
        "published": {"metric": "top-1", "source": "a paper", "rows": {"a": 81.6, "b": 82}, "margin": 0.1},
        "base": "b",
        "seeds": [3, 4],
    }
    study = Study.from_mapping(values, "small")
    (tmp_path / "small.yaml").write_text(study.to_yaml())
    assert Study.read(tmp_path / "small.yaml") == study
    assert study.tests[0].img_size == (48, 48)
    assert study.train_settings(study.cell("b"), 4)["overrides"] == ("head=pool",)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"variants": {}}, "variants maps a name"),
    ({"axes": {"lr": [1]}}, "either axes or variants"),
    ({"variants": {"a": "head=pool"}}, "the variant 'a' is a mapping"),
    ({"variants": {"a": ["head"]}}, "edits are a list of PATH=VALUE"),
    ({"variants": {"a": {"sets": []}}}, "has no entry 'sets'"),
    ({"settings": {"model": "cvt_nano"}}, "the settings of a study have data"),
    ({"settings": {**SMALL["settings"], "epoch": 3}}, "no setting 'epoch': did you mean 'epochs'"),
    ({"settings": {**SMALL["settings"], "epochs": "many"}}, "epochs is a whole number"),
    ({"settings": {**SMALL["settings"], "seed": 3}}, "entry seeds"),
    ({"base": "c"}, "there is no cell 'c'"),
    ({"seeds": [0, 0]}, "different whole numbers"),
    ({"seeds": 3}, "seeds is a list"),
    ({"tests": 32}, "tests is a list of image sizes"),
    ({"tests": {"x": {"size": 3}}}, "has no entry 'size'"),
    ({"published": {"rows": {"a": "high"}}}, "maps cells to numbers"),
    ({"published": {"rows": {"z": 1}}}, "there is no cell 'z'"),
    ({"name": "a b"}, "letters, digits"),
    ({"question": "?"}, "has no entry 'question'"),
    ({"title": 3}, "title is text"),
]


@pytest.mark.parametrize(("change", "said"), WRONG, ids=[said for _, said in WRONG])
def test_a_wrong_entry_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(StudyError, match=said) as caught:
        Study.from_mapping({**SMALL, **change}, "small")
    assert str(caught.value).count("\n") == 0


def test_a_missing_file_and_text_that_is_not_yaml_are_errors(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="did you mean 'cvt-position'"):
        Study.read("cvt-positon")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(StudyError, match="not YAML"):
        Study.read(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text(yaml.safe_dump([1]))
    with pytest.raises(StudyError, match="a study is a mapping"):
        Study.read(tmp_path / "list.yaml")
    assert issubclass(StudyError, HexavitError)
