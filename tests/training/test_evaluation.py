import json
from pathlib import Path

import pytest
from tests.using import CLASSES, digits_folder, make_folder, trained

from hexavit.errors import DataError
from hexavit.inference import predict
from hexavit.training import evaluate


def test_it_agrees_with_the_training() -> None:
    found, metrics = evaluate(trained(), str(digits_folder()), device="cpu"), json.loads(trained().metrics.read_text())
    assert (found.part, found.count, found.top5) == ("val", 6, None)
    assert found.accuracy == metrics["accuracy"]
    assert found.loss == pytest.approx(metrics["loss"], rel=1e-5)


def test_it_agrees_with_the_predictions() -> None:
    found = evaluate(trained(), str(digits_folder()), part="all", batch_size=7, device="cpu")
    right = dict.fromkeys(CLASSES, 0)
    for each in predict(trained(), [digits_folder()], device="cpu"):
        right[each.image.parent.name] += each.top[0][0] == each.image.parent.name
    assert found.count == 30
    assert found.accuracy == pytest.approx(sum(right.values()) / 30)
    assert {each.name: each.recall for each in found.per_class} == pytest.approx(
        {name: count / 10 for name, count in right.items()}
    )
    assert json.loads(json.dumps(found.as_dict()))["per_class"][0]["count"] == 10


def test_other_data_may_have_fewer_classes(tmp_path: Path) -> None:
    data = make_folder(tmp_path, 3)
    for file in (data / "one").iterdir():
        file.unlink()
    (data / "one").rmdir()
    found = evaluate(trained(), str(data), device="cpu")
    assert (found.part, [each.name for each in found.per_class]) == ("all", ["two", "zero"])


def test_a_test_part_goes_before_val(tmp_path: Path) -> None:
    data = make_folder(tmp_path, 2, ("train", "val", "test"))
    assert evaluate(trained(), str(data), device="cpu").part == "test"
    assert evaluate(trained(), str(data), part="val", device="cpu").part == "val"


def test_what_the_model_does_not_know_is_refused(tmp_path: Path) -> None:
    data = make_folder(tmp_path, 2)
    with pytest.raises(DataError, match="this data has no part 'test': choose from all"):
        evaluate(trained(), str(data), part="test")
    (data / "zero").rename(data / "zeros")
    with pytest.raises(DataError, match="the model knows no class 'zeros': did you mean 'zero'"):
        evaluate(trained(), str(data))
