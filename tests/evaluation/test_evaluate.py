import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.using import CLASSES, digits_folder, make_folder, silent, tiny, trained
from torch import nn

import hexavit
from hexavit.cli import main
from hexavit.data import ImageFolder
from hexavit.data.loader import Draw, Images
from hexavit.errors import DataError, HexavitError
from hexavit.evaluation.evaluate import TrainingImagesWarning, evaluate_with_predictions
from hexavit.inference import LoadedModel, Run, predict
from hexavit.inference.acceleration import optimized
from hexavit.models.imagenet import imagenet_classes, imagenet_numbers
from hexavit.training import evaluate, train


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
    data = make_folder(tmp_path, 3, first=20)
    for file in (data / "one").iterdir():
        file.unlink()
    (data / "one").rmdir()
    found = evaluate(trained(), str(data), device="cpu")
    assert (found.part, [each.name for each in found.per_class]) == ("all", ["two", "zero"])


def test_a_test_part_goes_before_val(tmp_path: Path) -> None:
    data = make_folder(tmp_path, 2, ("train", "val", "test"), first=20)
    assert evaluate(trained(), str(data), device="cpu").part == "test"
    assert evaluate(trained(), str(data), part="val", device="cpu").part == "val"


def test_unknown_classes_are_an_error(tmp_path: Path) -> None:
    data = make_folder(tmp_path, 2, first=20)
    with pytest.raises(DataError, match="this data has no part 'test': choose from all"):
        evaluate(trained(), str(data), part="test")
    (data / "zero").rename(data / "zeros")
    with pytest.raises(DataError, match="the model knows no class 'zeros': did you mean 'zero'"):
        evaluate(trained(), str(data))


def test_broken_images_are_rejected_or_left_out(tmp_path: Path) -> None:
    data = make_folder(tmp_path, 4, first=20)
    (data / "zero" / "a.png").touch()
    with pytest.raises(DataError, match=r"a\.png: this file is empty; --on-bad-image skip leaves such images out$"):
        evaluate(trained(), str(data), device="cpu")
    found = evaluate(trained(), str(data), on_bad_image="skip", device="cpu")
    assert found.count == 12
    assert list(found.skipped) == ["zero/a.png"]
    assert found.as_dict()["skipped"]["zero/a.png"].endswith("this file is empty")


def test_among_the_classes_of_the_data(tmp_path: Path) -> None:
    data = make_folder(tmp_path, 6, first=20)
    for file in (data / "two").iterdir():
        file.unlink()
    (data / "two").rmdir()
    result = evaluate_with_predictions(trained(), str(data), among="data", device="cpu")
    assert list(result.classes) == ["one", "zero"]
    best = {}
    for each in predict(trained(), [data], top=3, device="cpu"):
        best[each.image] = next(name for name, _ in each.top if name != "two")
    right = sum(path.parent.name == name for path, name in best.items())
    assert result.evaluation.accuracy == pytest.approx(right / 12)
    assert result.evaluation.accuracy >= evaluate(trained(), str(data), device="cpu").accuracy


def test_classes_that_the_model_lacks_are_left_out_and_counted(tmp_path: Path) -> None:
    data = make_folder(tmp_path, 4, first=20)
    (data / "zero").rename(data / "nil")
    with pytest.raises(DataError, match="the model knows no class 'nil'"):
        evaluate(trained(), str(data), device="cpu")
    found = evaluate(trained(), str(data), among="data", device="cpu")
    assert (found.count, found.left_out) == (8, {"nil": 4})


def test_a_model_of_imagenet_22k_is_evaluated_on_1k(tmp_path: Path) -> None:
    """Class folders by WordNet's numbers; only the columns of ImageNet-1k's classes are looked at."""
    folders = {"zero": "n01440764", "one": "n02123045", "two": "n04399382"}  # ImageNet-22k has no n04399382
    data = make_folder(tmp_path, 3, first=20)
    for name, number in folders.items():
        (data / name).rename(data / number)
    ready = LoadedModel(
        imagenet_classes(21841),
        trained().input_spec(),
        "made up",
        {number: i for i, number in enumerate(imagenet_numbers(21841))},
        model=hexavit.create_model("cvt_nano", num_classes=21841).eval(),
    )
    result = evaluate_with_predictions(ready, str(data), among="data", device="cpu")
    assert list(result.classes) == ["tench", "tabby (n02123045)"]
    assert (result.evaluation.count, result.evaluation.left_out) == (6, {"n04399382": 3})
    assert set(imagenet_numbers()) - set(imagenet_numbers(21841)) == {"n04399382"}
    images = Images(ImageFolder(data), range(6), ready.input_spec.transform(), 0)
    logits = ready.model(torch.stack([images[Draw(0, n)][0] for n in range(6)]))
    numbers = imagenet_numbers(21841)
    chosen = logits[:, [numbers.index("n01440764"), numbers.index("n02123045")]].argmax(1)
    assert result.predictions.predicted.tolist() == chosen.tolist()


def test_folders_of_imagenet_22k_are_trained_on_and_evaluated(tmp_path: Path) -> None:
    data = make_folder(tmp_path / "data", 5)
    for name, number in {"zero": "n00004475", "one": "n02123045", "two": "n01440764"}.items():
        (data / name).rename(data / number)
    run = train(tiny(data, epochs=1), tmp_path / "run", console=silent()).run
    few = make_folder(tmp_path / "few", 3, first=20)
    (few / "zero").rename(few / "n01440764")
    (few / "one").rename(few / "n02123045")
    (few / "two").rename(few / "n01443537")
    found = evaluate(run, str(few), among="data", device="cpu")
    assert (found.count, found.left_out) == (6, {"n01443537": 3})


def test_the_optimized_model_has_the_same_figures() -> None:
    plain, fast = (evaluate(trained(), str(digits_folder()), device="cpu", optimize=on) for on in (False, True))
    assert fast.accuracy == plain.accuracy
    assert fast.loss == pytest.approx(plain.loss, rel=1e-5)
    with pytest.raises(HexavitError, match="optimize is for float32 models of hexavit on a CPU"):
        optimized(nn.Linear(1, 1), torch.device("meta"), True, 1, (32, 32), 1)


def test_no_metric_depends_on_the_batch_size(tmp_path: Path) -> None:
    """Each metric of 27 images, with a smaller last batch or not, against sums in NumPy over the logits."""
    source, run = ImageFolder(make_folder(tmp_path, 9, first=20)), trained()
    images = Images(source, range(27), run.input_spec().transform(), 0)
    with torch.no_grad():
        logits = run.model()(torch.stack([images[Draw(0, n)][0] for n in range(27)])).double().numpy()
    truth = np.array(source.labels)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    predicted, confidence = p.argmax(axis=1), p.max(axis=1)
    bins = np.ceil(confidence * 15)
    gaps = [
        abs((predicted == truth)[bins == n].mean() - confidence[bins == n].mean()) * (bins == n).mean()
        for n in np.unique(bins)
    ]
    hits = [np.sum((predicted == c) & (truth == c)) for c in range(3)]
    f1 = [2 * hits[c] / (np.sum(predicted == c) + np.sum(truth == c)) for c in range(3)]
    expected = {
        "accuracy": (predicted == truth).mean(),
        "loss": -np.log(p[np.arange(27), truth]).mean(),
        "ece": sum(gaps),
        "macro_f1": np.mean(f1),
    }
    for batch_size in (1, 8, 13, 26):
        found = evaluate(run, str(tmp_path), batch_size=batch_size, device="cpu")
        assert found.count == 27
        assert {name: getattr(found, name) for name in expected} == pytest.approx(expected, rel=1e-4, abs=1e-6)


def shown(source: str, **options: object) -> tuple[str, int, tuple[str, ...], bool]:
    found = evaluate(trained(), source, device="cpu", **options)  # type: ignore[arg-type]
    return found.part, found.count, found.notes, found.training_images


@pytest.mark.parametrize("renamed", [False, True])
def test_a_copy_of_the_data_has_the_same_validation_images(tmp_path: Path, renamed: bool) -> None:
    copy = shutil.copytree(digits_folder(), tmp_path / "copy")
    if renamed:
        for file in sorted(copy.rglob("*.png")):
            file.rename(file.with_name(f"photo {file.name}"))
    assert shown(str(copy)) == ("val", 6, (), False)
    original = evaluate(trained(), str(digits_folder()), device="cpu")
    assert evaluate(trained(), str(copy), device="cpu").loss == pytest.approx(original.loss, rel=1e-6)


def test_new_images_beside_training_images_are_evaluated_alone(tmp_path: Path) -> None:
    copy = shutil.copytree(digits_folder(), tmp_path / "copy")
    shutil.copytree(make_folder(tmp_path / "new", 2, first=20), copy, dirs_exist_ok=True)
    left_out = ("6 images that the run does not know are left out; --part all includes them.",)
    assert shown(str(copy)) == ("val", 6, left_out, False)
    for name in trained().split_record()["parts"]["val"]:
        (copy / name).unlink()
    part, count, notes, training_images = shown(str(copy))
    assert (part, count, training_images) == ("new", 6, False)
    assert notes[-1] == "The run's training images are left out."
    for file in (tmp_path / "new").rglob("*.png"):
        (copy / file.relative_to(tmp_path / "new")).unlink()
    with pytest.raises(DataError, match="all images here are training images of the run; --part train evaluates them"):
        shown(str(copy))
    assert shown(str(copy), part="train")[:2] == ("train", 24)


def test_a_run_without_checksums_warns_where_its_split_is_not_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(shutil.copytree(trained().path, tmp_path / "run"))
    record = run.split_record()
    del record["checksums"]
    run.split_file.write_text(json.dumps(record))
    data = make_folder(tmp_path / "data", 4)
    with pytest.warns(TrainingImagesWarning, match="all 12 images are evaluated, and training images may be among"):
        found = evaluate(run, str(data), device="cpu")
    assert (found.part, found.training_images) == ("all", True)
    assert main(["evaluate", str(run.path), "--data", str(data), "--device", "cpu"]) == 0
    assert capsys.readouterr().err.startswith("warning: The validation images of the run are not known")
    assert evaluate(run, str(data), part="all", device="cpu").notes == ()
