import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console
from tests.using import digits_folder, history, silent, tiny, trained

from hexavit.cli import main
from hexavit.errors import RunError
from hexavit.runs.compare import RunSummary, as_csv, as_records, as_table, as_tables, differing, find_runs, seed_groups
from hexavit.training import train


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs, one that is not, three that are broken, and things that are no runs; do not write to it."""
    place = tmp_path_factory.mktemp("runs")
    for name in ("first", "deeper/half", "torn", "no config", "odd"):
        shutil.copytree(trained().path, place / name)
    train(tiny(digits_folder(), epochs=1, lr=1e-9, seed=3), place / "none[bold]", console=silent())
    half = place / "deeper" / "half"
    (half / "metrics.json").unlink()
    lines = (half / "metrics.csv").read_text().splitlines()
    (half / "metrics.csv").write_text("\n".join(lines[:2]) + "\n")
    (place / "torn" / "metrics.json").write_text('{"accuracy": 0.')
    (place / "no config" / "config.yaml").unlink()
    (place / "odd" / "metrics.csv").write_text("epoch,accuracy\n1,high\n")
    (place / "notes").mkdir()
    (place / ".hidden").mkdir()
    shutil.copy(trained().config, place / ".hidden")
    (place / "ring").symlink_to(place)
    return place


def test_runs_are_found_and_sorted(place: Path) -> None:
    found = find_runs(place)
    assert {each.name: each.state for each in found} == {
        "first": "finished",
        "deeper/half": "unfinished",
        "none[bold]": "finished",
        "torn": "broken",
        "no config": "broken",
        "odd": "broken",
    }
    accuracies = [each.accuracy for each in found if each.state != "broken"]
    assert accuracies == sorted(accuracies, reverse=True)
    assert [each.state for each in found[-3:]] == ["broken"] * 3
    problems = {each.name: each.problem for each in found if each.problem}
    assert problems["no config"] == "it holds no config.yaml, so its start was interrupted"
    assert "this history is damaged" in problems["odd"]
    assert all("\n" not in problem for problem in problems.values())


def test_runs_of_images_with_several_classes_are_compared_by_map(tmp_path: Path) -> None:
    """The best epoch and the best run are those of the highest mAP, not those with most images all right."""
    rows = {"low": [(0.9, 0.5)], "high": [(0.3, 0.8), (0.6, 0.7)]}  # (accuracy, mAP) of each epoch
    for name, epochs in rows.items():
        shutil.copytree(trained().path, tmp_path / name)
        (tmp_path / name / "metrics.json").unlink()
        lines = [f"{n},{accuracy},{score},0.1,1,5" for n, (accuracy, score) in enumerate(epochs, 1)]
        text = "\n".join(["epoch,accuracy,map,loss,seconds,images_per_second", *lines])
        (tmp_path / name / "metrics.csv").write_text(text + "\n")
    found = find_runs(tmp_path)
    assert [(each.name, each.accuracy, each.map) for each in found] == [("high", 0.3, 0.8), ("low", 0.9, 0.5)]
    console = Console(file=io.StringIO(), width=200)
    console.print(as_table(found, 200))
    assert "mAP 80.00%" in console.file.getvalue()  # type: ignore[attr-defined]


def test_figures_are_those_of_the_runs(place: Path) -> None:
    found = {each.name: each for each in find_runs(place)}
    metrics = json.loads(trained().metrics.read_text())
    first, half = found["first"], found["deeper/half"]
    assert (first.accuracy, first.loss, first.epochs, first.parameters) == (
        metrics["accuracy"],
        metrics["loss"],
        2,
        metrics["parameters"],
    )
    assert (half.accuracy, half.epochs, half.parameters) == (float(history(trained())[0]["accuracy"]), 1, None)
    assert half.images_per_second == pytest.approx(half.history[0]["images_per_second"])


def test_only_what_differs_is_printed(place: Path) -> None:
    found = find_runs(place)
    assert differing(found) == ["lr", "seed"]
    record = next(each for each in as_records(found) if each["name"] == "none[bold]")
    assert (record["lr"], record["seed"], record["epochs_asked"]) == (1e-9, 3, 1)
    rows = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert [row["name"] for row in rows] == [each.name for each in found]
    assert rows[-1]["accuracy"] == ""
    printed = io.StringIO()
    Console(file=printed, width=250).print(as_table(found))
    line = next(line for line in printed.getvalue().splitlines() if "none[bold]" in line)
    assert "lr 1e-09, seed 3" in line
    assert "1/1" in line
    narrow = io.StringIO()
    Console(file=narrow, width=80).print(as_table(found, 80))
    assert "none[bold]" in narrow.getvalue()
    assert all(title in narrow.getvalue() for title in ("what differs", "best", "state"))


def test_one_run_alone_is_compared_with_nothing() -> None:
    (only,) = find_runs(trained().path)
    assert only.name == "run"
    assert differing([only]) == []


def test_the_command(place: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plot = tmp_path / "all.png"
    assert main(["runs", str(place), "--plot", str(plot)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "deeper/half" in "".join(lines)
    assert len({len(line) for line in lines}) == 1  # one line a run, however narrow the terminal that is not there
    assert len(lines) == 6 + 4
    with Image.open(plot) as picture:
        assert picture.width > 800
    assert main(["runs", str(place), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 6
    assert main(["runs", str(place), "--csv"]) == 0
    assert capsys.readouterr().out.startswith("name,state,problem,model,lr,seed,accuracy,")


def test_runs_are_grouped_by_data_set_and_by_seed() -> None:
    def made(name: str, accuracy: float, **settings: object) -> RunSummary:
        return RunSummary(name, "finished", None, {"model": "m", "epochs": 2, **settings}, accuracy)

    runs = [
        made("a", 0.90, data="digits", lr=0.1, seed=0),
        made("b", 0.94, data="digits", lr=0.1, seed=1),
        made("c", 0.95, data="digits", lr=0.2, seed=0),
        made("d", 0.50, data="photos", lr=0.1, seed=0),
    ]
    (group,) = seed_groups(runs)
    assert [run.name for run in group.runs] == ["a", "b"]
    assert (group.mean, group.spread) == (pytest.approx(0.92), pytest.approx(0.02 * 2**0.5))
    text = io.StringIO()
    for table in as_tables(runs):
        Console(file=text, width=200).print(table)
    lines = [line.strip() for line in text.getvalue().splitlines()]
    assert lines.index("digits") < lines.index("photos") < lines.index("over seeds")
    assert "92.00%" in text.getvalue()
    assert "2.83%" in text.getvalue()


def test_nothing_to_compare(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no such folder"):
        find_runs(tmp_path / "nowhere")
    with pytest.raises(RunError, match="there is no run in or below this folder"):
        find_runs(tmp_path)
