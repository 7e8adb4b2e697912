"""Studies run: every cell once, again after a death, and a report from the outcomes."""

import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hexavit.cli._main import main
from hexavit.runs.run_folder import Run
from hexavit.studies import Study, StudyError
from hexavit.studies.cell import Outcome, run_cell
from hexavit.studies.queue import Queue
from hexavit.studies.run import report, run, status

pytestmark = pytest.mark.usefixtures("one_thread")
SETTINGS = {
    "model": "deit_nano", "data": "digits", "train_images": 60, "epochs": 1, "batch_size": 30, "lr": 0.001,
    "overrides": ["stages.0.depth=1", "stages.0.dim=24"], "workers": 0,
}  # fmt: skip


def small(**changes: Any) -> Study:
    values: dict[str, Any] = {
        "settings": SETTINGS,
        "variants": {
            "learned": [],
            "none": ["stages.0.position=none"],
            "broken": ["stages.0.attention=global(heads=5)"],
        },
        "seeds": [0, 1],
        "part": "val",
        "tests": {"32": {}, "48": {"img_size": 48}},
        "full_size": "deit_small_patch16_224",
        "published": {"metric": "top-1", "source": "a paper", "rows": {"learned": 79.8, "none": 78.0}},
    }
    if "variants" in changes:
        values["published"] = None
    return Study.from_mapping({**values, **changes}, "small")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A finished study with one cell that cannot be built, and what was told."""
    folder, told = tmp_path_factory.mktemp("study") / "small", list[str]()
    run(small(), folder, tell=told.append)
    return folder, told


def test_every_cell_is_run_once_with_every_seed(done: tuple[Path, list[str]]) -> None:
    folder, told = done
    study, states = status(folder)
    assert [(s.cell, s.seed) for s in states] == [(c.name, seed) for c in study.cells for seed in (0, 1)]
    assert {s.state for s in states if s.cell != "broken"} == {"finished"}
    assert all(s.state == "failed" and "heads" in s.reason for s in states if s.cell == "broken")
    assert any(line.startswith("warning: broken cannot be built") for line in told)
    assert sum(line.startswith("learned, seed") for line in told) == 2
    run(small(), folder, tell=told.append)  # nothing is left
    assert sum(line.startswith("learned, seed") for line in told) == 2


def test_the_report_holds_accuracy_differences_costs_and_the_paper(done: tuple[Path, list[str]]) -> None:
    folder, _ = done
    results, paths = report(folder)
    assert sorted(path.name for path in paths) == ["curves.png", "pareto.png", "report.csv", "report.html", "report.md"]
    text = (folder / "report" / "report.md").read_text()
    assert "`broken` failed: " in text
    assert "data:image/png;base64," in (folder / "report" / "report.html").read_text()
    with (folder / "report" / "report.csv").open() as file:
        rows = {(row["cell"], row["test"]): row for row in csv.DictReader(file)}
    study, states = status(folder)
    assert len(rows) == len(study.cells) * 2
    for cell in ("learned", "none"):
        for test in ("32", "48"):
            values = [s.outcome.accuracy[test] for s in states if s.cell == cell and s.outcome is not None]
            assert float(rows[cell, test]["accuracy"]) == pytest.approx(sum(values) / 2)
    # DeiT-S without its table of 197 rows of 384 (FACTS: 22.05 M parameters).
    full = {cell: int(rows[cell, "32"]["full_size_parameters"]) for cell in ("learned", "none")}
    assert full["learned"] == 22_050_664
    assert full["learned"] - full["none"] == 197 * 384
    assert rows["broken", "32"]["failures"]
    assert float(rows["none", "32"]["images_per_second"]) > 0
    assert rows["none", "32"]["agreement"] in ("agrees", "disagrees", "undecided")
    assert results.base.cell.name == "learned"


def test_outcomes_say_of_each_image_whether_it_was_right(done: tuple[Path, list[str]]) -> None:
    _, states = status(done[0])
    for outcome in (s.outcome for s in states if s.outcome is not None):
        assert outcome.hits("48").mean() == pytest.approx(outcome.accuracy["48"])
        assert Outcome.from_json(outcome.to_json()) == outcome


def test_the_weights_of_the_last_epoch_are_tested(tmp_path: Path) -> None:
    study = small(variants={"learned": []}, settings={**SETTINGS, "epochs": 2, "lr": 1e-9}, tests={"32": {}})
    first = run_cell(study, study.cells[0], 0, tmp_path / "run")
    folder = Run(tmp_path / "run")
    other = load_file(folder.weights("best"))
    save_file({key: torch.zeros_like(t) for key, t in other.items()}, folder.weights("best"))
    assert run_cell(study, study.cells[0], 0, folder.path).right == first.right
    save_file({key: torch.zeros_like(t) for key, t in other.items()}, folder.weights("last"))
    assert run_cell(study, study.cells[0], 0, folder.path).right != first.right


def test_another_study_does_not_fit_the_folder(done: tuple[Path, list[str]], tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="holds another study"):
        run(small(seeds=[0]), done[0])
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match="holds other files"):
        run(small(), tmp_path)
    with pytest.raises(StudyError, match="there is no study"):
        status(tmp_path)
    with pytest.raises(StudyError, match="no part 'tset'"):
        run(small(part="tset"), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_two_workers_that_queue_at_once_run_each_cell_once(tmp_path: Path) -> None:
    """The second queue has been filled before the first one's cells were there, as in a race."""
    study, folder = small(variants={"learned": []}, tests={"32": {}}), tmp_path / "study"
    told: list[str] = []
    queue = Queue(f"sqlite:///{tmp_path / 'study.db'}", study.name)
    queue.create(study)
    attrs = {"cell": "learned", "seed": 0}
    queue._loaded().enqueue_trial(attrs, user_attrs=attrs)
    queue.work(folder, told.append)
    assert sorted(line[:15] for line in told) == ["learned, seed 0", "learned, seed 1"]
    assert [state.state for state in queue.states()] == ["finished", "finished"]


@pytest.mark.parametrize("place", ["q.run_cell", "q.Queue._begin"])  # in training, and before the first heartbeat
def test_the_cell_of_a_dead_worker_is_run_again(tmp_path: Path, place: str) -> None:
    study = small(variants={"learned": []}, seeds=[0], tests={"32": {}})
    url = f"sqlite:///{tmp_path / 'study.db'}"
    queue = Queue(url, study.name, heartbeat=1, grace=2)
    queue.create(study)
    dying = (
        "import os, sys; from pathlib import Path; import hexavit.studies.queue as q\n"
        f"{place} = lambda *a: os._exit(9)\n"
        "q.Queue(sys.argv[1], 'small', heartbeat=1, grace=2).work(Path(sys.argv[2]), print)"
    )
    assert subprocess.run([sys.executable, "-c", dying, url, str(tmp_path)]).returncode == 9
    assert [state.state for state in queue.states()] == ["running"]
    time.sleep(2.5)
    told: list[str] = []
    queue.work(tmp_path, told.append, poll=0.2)
    assert [state.state for state in queue.states()] == ["finished"]
    assert len(told) == 1


def test_failed_cells_are_queued_again_on_demand(tmp_path: Path) -> None:
    study = small(
        variants={"learned": [], "broken": ["stages.0.attention=global(heads=5)"]}, seeds=[0], tests={"32": {}}
    )
    told: list[str] = []
    run(study, tmp_path / "s", tell=told.append)
    run(study, tmp_path / "s", tell=told.append, retry=("failed",))
    assert sum(line.startswith("broken, seed 0: failed") for line in told) == 2


def test_the_command_sweeps_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["study", "run", "--model", "deit_nano", "--data", "digits", "--train-images", "40", "--epochs", "1"]
    edits = ["--set", "stages.0.position=learned,none", "--set", "stages.0.depth=1", "--seeds", "1", "--no-measure"]
    assert main([*arguments, *edits]) == 2  # digits have no test images
    assert "this data has no part 'test'" in capsys.readouterr().err
    assert main(["study", "list", "--json"]) == 0
    assert {each["name"] for each in json.loads(capsys.readouterr().out)} >= {"cvt-position", "pvt-v2-parts"}
    assert main(["study", "run"]) == 2
    assert "needs a STUDY" in capsys.readouterr().err
    assert main(["study", "status"]) == 2
    assert "needs the FOLDER" in capsys.readouterr().err


def test_a_missing_driver_of_postgresql_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StudyError) as error:
        Queue("postgresql://somebody@host/studies", "study")
    assert str(error.value) == (
        "postgresql://host/studies: this storage cannot be used (it needs psycopg: pip install 'hexavit[postgresql]')"
    )
