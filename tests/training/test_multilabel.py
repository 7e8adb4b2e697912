"""Images with several classes or none, from the table to the predictions."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.using import digits_folder, silent, tiny, trained

import hexavit
from hexavit.cli import main
from hexavit.data import ImageTable
from hexavit.data.check import check_data
from hexavit.data.loader import UNCOUNTED, Draw, Images, is_counted
from hexavit.errors import DataError, HexavitError
from hexavit.evaluation.evaluate import evaluate
from hexavit.evaluation.probing import probe
from hexavit.inference import Run, predict
from hexavit.training import train
from hexavit.training.auto_config.facts import gather_facts
from hexavit.training.auto_config.rules import choose_settings

SETTINGS = {"epochs": 4, "lr": 4e-3, "label_smoothing": 0.0, "augment": "none"}


def make_table(folder: Path, count: int = 60) -> Path:
    """Images whose upper and lower half are bright or not, each half a class of its own."""
    folder.mkdir()
    rows = [["path", "labels"]]
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 40, (16, 16)).astype(np.uint8)
        names = [name for bit, name in enumerate(("above", "below")) if number >> bit & 1]
        for name in names:
            pixels[slice(0, 8) if name == "above" else slice(8, 16)] += 180
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append([f"{number}.png", "|".join(names)])
    with (folder / "images.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "images.csv"


@pytest.mark.usefixtures("one_thread")
def test_train_evaluate_and_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_table(tmp_path / "data")
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
    given = [*options, "--batch-size=8", "--workers=0", "--device=cpu", "--model=cvt_nano", "--img-size=32"]
    assert main(["train", str(data), "--out", str(tmp_path / "run"), *given]) == 0
    assert "validation mAP 100.00%" in capsys.readouterr().out
    run = Run(tmp_path / "run")
    assert json.loads(run.metrics.read_text())["map"] == 1.0
    thresholds = json.loads(run.thresholds_file.read_text())
    assert set(thresholds) == {"best", "last"}
    assert len(thresholds["best"]) == 2

    report = tmp_path / "report.html"
    assert main(["evaluate", str(run.path), "--data", str(data), "--device=cpu", "--report", str(report)]) == 0
    shown = capsys.readouterr().out
    assert "mAP       100.00%" in shown
    assert shown.splitlines()[-1].startswith("below ")
    assert "average precision" in report.read_text()
    assert "Confusion" not in report.read_text()
    found = evaluate(run, str(data), device="cpu")
    assert (found.part, found.count, found.accuracy, found.macro_f1) == ("val", 12, 1.0, 1.0)
    assert [each.threshold for each in found.per_class] == thresholds["best"]

    assert main(["predict", str(run.path), str(data.parent), "--format=csv", "--device=cpu"]) == 0
    rows = {Path(row["image"]).stem: row for row in csv.DictReader(capsys.readouterr().out.splitlines())}
    truths = {Path(row["path"]).stem: row["labels"] for row in csv.DictReader(data.read_text().splitlines())}
    assert {name: set(row["classes"].split("|")) for name, row in rows.items()} == {
        name: set(labels.split("|")) for name, labels in truths.items()
    }
    saved = hexavit.save_pretrained(hexavit.from_pretrained(run.path), tmp_path / "saved")
    one, other = (next(predict(each, [data.parent / "1.png"], device="cpu")) for each in (saved, run))
    assert one == other
    assert one.classes is not None
    config = saved / "config.json"
    config.write_text(config.read_text().replace('"thresholds": [', '"thresholds": [1,'))
    with pytest.raises(HexavitError, match=r"thresholds in .*config.json: these are not 2 numbers"):
        hexavit.from_pretrained(saved)
    # Thresholds decide what is predicted: none is reached above 1, all are at 0.
    for value, expected in ((1.1, set()), (0.0, {"above", "below"})):
        run.thresholds_file.write_text(json.dumps({"best": [value] * 2}))
        (one,) = predict(run, [data.parent / "1.png"], device="cpu")
        assert set(one.classes or ()) == expected
        assert {name for name, _ in one.top} == {"above", "below"}
    run.thresholds_file.write_text("{}")
    with pytest.raises(HexavitError, match="this file of the run is damaged"):
        evaluate(run, str(data))


def test_targets_are_rows_of_classes(tmp_path: Path) -> None:
    source = ImageTable(make_table(tmp_path / "data", 8))
    images = Images(source, [0, 3, 2], lambda _: torch.zeros(1), seed=0)
    assert [images[Draw(0, place)][1].tolist() for place in range(3)] == [[0, 0], [1, 1], [0, 1]]
    rows = torch.stack([images[Draw(0, 1)][1], images[Draw(0, 1, counts=False)][1]])
    assert rows[1].tolist() == [UNCOUNTED] * 2
    assert is_counted(rows).tolist() == [True, False]
    assert is_counted(torch.tensor([0, UNCOUNTED])).tolist() == [True, False]


def test_the_settings_are_chosen_and_the_check_counts_every_class(tmp_path: Path) -> None:
    data = make_table(tmp_path / "data", 40)
    given = {"data": str(data), "device": "cpu"}
    config, _ = choose_settings(gather_facts(given), given)
    assert (config.label_smoothing, config.balance, config.in_chans) == (0.0, "none", 1)
    found = check_data(ImageTable(data))
    assert {name: sum(parts.values()) for name, parts in found.classes.items()} == {"above": 20, "below": 20}
    assert found.contradictions == ()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"model": "deit_nano", "teacher": "RUN"}, r"distillation \(teacher\) needs data with one class per image"),
        ({"model": "lvvit_nano", "mix_token": True}, "mix_token needs data with one class per image"),
    ],
)
def test_objectives_for_one_class_are_errors(tmp_path: Path, settings: dict[str, object], sentence: str) -> None:
    data = make_table(tmp_path / "data", 24)
    given = {name: str(trained().path) if value == "RUN" else value for name, value in settings.items()}
    with pytest.raises(HexavitError, match=sentence):
        train(tiny(data, **given), tmp_path / "run", console=silent())


def test_a_model_of_one_class_is_neither_evaluated_nor_probed(tmp_path: Path) -> None:
    data = str(make_table(tmp_path / "data", 12))
    with pytest.raises(DataError, match="and the model predicts one class per image"):
        evaluate(trained(), data)
    with pytest.raises(DataError, match="probes need one class per image"):
        probe(trained(), data)


def test_balancing_weights_cannot_be_combined_with_token_labels(tmp_path: Path) -> None:
    config = tiny(digits_folder(), model="lvvit_nano", mix_token=True, balance="weights")
    with pytest.raises(HexavitError, match="balance weights cannot be combined with mix_token: use balance sampler"):
        train(config, tmp_path / "run", console=silent())
