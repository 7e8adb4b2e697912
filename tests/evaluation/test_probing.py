import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import cosine_similarity
from tests.using import digits_folder, make_folder, silent, tiny, trained

import hexavit
from hexavit.cli import main
from hexavit.data import Digits, open_source
from hexavit.data.split import make_split
from hexavit.errors import DataError, HexavitError
from hexavit.evaluation import probing
from hexavit.evaluation.probing import extract, probe
from hexavit.inference import InputSpec, LoadedModel, load_model
from hexavit.inference.predictor import as_predictor
from hexavit.training import train

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def ready() -> LoadedModel:
    """An untrained model without a head: its features separate digits better than chance."""
    torch.manual_seed(0)
    model = hexavit.create_model("deit_nano", num_classes=0, in_chans=1, img_size=32).eval()
    return LoadedModel((), Digits().hints.suited(InputSpec.of_model(model)), "untrained", model=model)


def test_both_classifiers_are_scikit_learns_on_the_features(ready: LoadedModel, tmp_path: Path) -> None:
    data = str(make_folder(tmp_path, 20))
    found = probe(ready, data, k=1, c=0.5, device="cpu")
    source = open_source(data)
    split = make_split(source, 0.2, 0)
    fitted, validation = (extract(as_predictor(ready, device="cpu"), source, split[part]) for part in ("train", "val"))
    nearest = cosine_similarity(validation.vectors, fitted.vectors).argmax(axis=1)
    assert found.knn.accuracy == pytest.approx((fitted.labels[nearest] == validation.labels).mean())
    mean, deviation = fitted.vectors.mean(axis=0), fitted.vectors.std(axis=0)
    scaled = [(each.vectors - mean) / np.where(deviation > 0, deviation, 1) for each in (fitted, validation)]
    alone = LogisticRegression(C=0.5, max_iter=1000).fit(scaled[0], fitted.labels)
    assert found.linear.accuracy == pytest.approx(alone.score(scaled[1], validation.labels), abs=0.09)
    assert (found.knn.chosen, found.linear.chosen, found.knn.top5) == ("given", "given", None)
    assert (found.train_images, found.held_out_images, found.dimension) == (48, 12, fitted.vectors.shape[1])


def test_the_settings_are_chosen_on_the_training_images_alone(ready: LoadedModel, tmp_path: Path) -> None:
    data = make_folder(tmp_path, 12)
    source = open_source(str(data))
    before = probe(ready, str(data), device="cpu")
    assert before.knn.chosen == before.linear.chosen == "cross-validation"
    assert before.knn.setting in probing.NEIGHBOURS
    assert before.linear.setting in probing.PENALTIES
    for number in make_split(source, 0.2, 0)["val"]:  # validation images become noise
        path = data / source.names[number]
        path.write_bytes((data / "zero" / sorted((data / "zero").iterdir())[0].name).read_bytes())
    after = probe(ready, str(data), device="cpu")
    assert (after.knn.setting, after.knn.folds) == (before.knn.setting, before.knn.folds)
    assert (after.linear.setting, after.linear.folds) == (before.linear.setting, before.linear.folds)
    assert after.knn.accuracy != before.knn.accuracy


def test_ten_digits_have_a_top_5_and_more_than_chance(ready: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "PENALTIES", (0.1, 1.0))
    monkeypatch.setattr(probing, "NEIGHBOURS", (1, 5))
    found = probe(ready, "digits", device="cpu", batch_size=256)
    assert found.knn.accuracy > 0.3
    assert found.linear.accuracy > 0.6
    assert found.knn.top5 > found.knn.accuracy


def test_a_run_is_probed_on_its_own_split(tmp_path: Path) -> None:
    found = probe(trained(), str(digits_folder()), device="cpu")
    record = trained().split_record()["parts"]
    assert (found.train_images, found.held_out_images, found.part) == (len(record["train"]), len(record["val"]), "val")
    data = make_folder(tmp_path, 4, ("train", "test"), first=20)
    other = probe(trained(), str(data), device="cpu")
    assert (other.train_images, other.held_out_images, other.part) == (12, 12, "test")


def test_features_are_kept_and_used_again(ready: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, cache = str(make_folder(tmp_path / "data", 6)), tmp_path / "kept.npz"
    first = probe(ready, data, device="cpu", cache=cache)
    monkeypatch.setattr(probing, "extract", None)
    assert probe(ready, data, device="cpu", cache=cache) == first
    with pytest.raises(TypeError):  # other weights, or another split, are read anew
        probe(trained(), data, device="cpu", cache=cache)
    with pytest.raises(TypeError):
        probe(ready, data, device="cpu", cache=cache, split_seed=1)
    cache.write_bytes(b"nothing")
    with pytest.raises(HexavitError, match="this file holds no features"):
        probe(ready, data, device="cpu", cache=cache)
    with pytest.raises(HexavitError, match=r"kept in an \.npz file"):
        probe(ready, data, device="cpu", cache=tmp_path / "kept.txt")


def test_broken_images_are_rejected_or_left_out(ready: LoadedModel, tmp_path: Path) -> None:
    data = make_folder(tmp_path, 5)
    (data / "zero" / "a.png").touch()
    with pytest.raises(DataError, match="this file is empty"):
        probe(ready, str(data), device="cpu")
    assert list(probe(ready, str(data), device="cpu", on_bad_image="skip").skipped) == ["zero/a.png"]


def test_impossible_settings_are_errors(ready: LoadedModel, tmp_path: Path) -> None:
    data = str(make_folder(tmp_path, 2))
    with pytest.raises(HexavitError, match="k is at most the number of training images, 3, not 4"):
        probe(ready, data, k=4, device="cpu")
    with pytest.raises(HexavitError, match="C is above 0"):
        probe(ready, data, c=0.0, device="cpu")
    with pytest.raises(DataError, match="has no part 'test'"):
        probe(ready, data, part="test", device="cpu")
    assert probe(ready, data, device="cpu").knn.chosen == "default"  # of each class one image is left


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    call = ["probe", str(trained().path), "--data", str(digits_folder()), "--device", "cpu"]
    assert main([*call, "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert main(call) == 0
    printed = capsys.readouterr().out
    assert f"k-NN    {read['knn']['accuracy']:>8.2%}" in printed
    assert f"C = {read['linear']['setting']:g} (cross-validation" in printed
    place = hexavit.save_pretrained(hexavit.create_model("cvt_nano", num_classes=0), tmp_path / "headless")
    assert main(["probe", str(place), "--data", str(digits_folder()), "--k", "1", "--c", "1"]) == 0
    assert load_model(place, headless=True).classes == ()


def test_a_trained_models_features_are_better_than_chance(tmp_path: Path) -> None:
    run = train(tiny(digits_folder(), epochs=6), tmp_path / "run", console=silent()).run
    assert probe(run, str(digits_folder()), k=1, c=1.0, device="cpu").knn.accuracy >= 0.5
