from pathlib import Path

import pytest
from tests.using import CLASSES, digits_folder, trained

import hexavit
from hexavit.errors import DataError, HexavitError
from hexavit.inference import acceleration, predict, prediction, predictor


def test_every_image_gets_its_classes_in_order() -> None:
    found = list(predict(trained(), [digits_folder()], top=10, device="cpu"))
    assert [each.image for each in found] == sorted(digits_folder().rglob("*.png"))
    for each in found:
        names, probabilities = zip(*each.top, strict=True)
        assert sorted(names) == sorted(CLASSES)
        assert list(probabilities) == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)


def test_the_batch_size_does_not_matter() -> None:
    one, many = (
        [each.top[0] for each in predict(trained(), [digits_folder()], batch_size=size, device="cpu")]
        for size in (1, 16)
    )
    assert [name for name, _ in one] == [name for name, _ in many]
    assert [p for _, p in one] == pytest.approx([p for _, p in many], abs=1e-5)


def test_a_broken_image_is_named_when_its_turn_comes(tmp_path: Path) -> None:
    good = next(digits_folder().rglob("*.png"))
    (tmp_path / "broken.png").write_bytes(good.read_bytes()[:60])
    predictions = predict(trained(), [good, tmp_path / "broken.png"], batch_size=1, device="cpu")
    assert next(predictions).image == good
    with pytest.raises(DataError, match=r"broken\.png"):
        next(predictions)


def test_a_missing_path_is_rejected_before_anything_is_computed() -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        predict(trained(), [digits_folder(), "nowhere"], device="cpu")


def test_sizes_are_checked() -> None:
    with pytest.raises(HexavitError, match="top is at least 1, not 0"):
        predict(trained(), [digits_folder()], top=0)


def test_a_run_may_be_named_by_its_folder() -> None:
    image = digits_folder() / "zero" / "0000.png"
    (named,), (opened,) = (list(predict(one, [image], device="cpu")) for one in (str(trained().path), trained()))
    assert named == opened


def test_the_optimized_model_predicts_the_same_classes() -> None:
    folder = digits_folder()
    plain = {found.image: found.top for found in predict(trained(), [folder], optimize=False, device="cpu")}
    fast = {found.image: found.top for found in predict(trained(), [folder], optimize=True, device="cpu")}
    assert fast.keys() == plain.keys()
    for image, top in plain.items():
        assert [name for name, _ in fast[image]] == [name for name, _ in top]
        assert [p for _, p in fast[image]] == pytest.approx([p for _, p in top], abs=1e-5)


@pytest.mark.parametrize(("start", "optimized"), [(10, [10]), (31, [])])
def test_a_long_list_is_optimized_on_the_way(start: int, optimized: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []

    def optimize(model: object, **options: object) -> object:
        called.append(start)
        return model

    for module in (prediction, predictor, acceleration):
        monkeypatch.setattr(module, "FROM_IMAGES", start)
    monkeypatch.setattr(hexavit, "optimize", optimize)
    assert len(list(predict(trained(), [digits_folder()], batch_size=4, device="cpu", engine="torch"))) == 30
    assert called == optimized
