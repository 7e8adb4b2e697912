import shutil
from pathlib import Path

import pytest
from tests.using import trained

from hexavit.errors import RunError
from hexavit.runs.run_folder import create_run_folder, next_free_path, resumable_run


def test_an_empty_or_new_folder_is_taken(tmp_path: Path) -> None:
    assert create_run_folder(tmp_path, overwrite=False).path == tmp_path
    assert create_run_folder(tmp_path / "a" / "b", overwrite=False).path.is_dir()


def test_overwriting_removes_the_run_and_nothing_else(tmp_path: Path) -> None:
    copy = shutil.copytree(trained().path, tmp_path / "run")
    (copy / "notes.txt").touch()
    (copy / "wandb" / "offline-run-1").mkdir(parents=True)
    with pytest.raises(RunError, match="holds a finished run"):
        create_run_folder(copy, overwrite=False)
    create_run_folder(copy, overwrite=True)
    assert [each.name for each in copy.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_not_a_run_is_never_taken(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunError, match="holds other files than those of a run"):
        create_run_folder(tmp_path, overwrite=overwrite)
    with pytest.raises(RunError, match="this is a file"):
        create_run_folder(tmp_path / "thesis.tex", overwrite=overwrite)
    with pytest.raises(RunError, match=r"cannot be created \(Not a directory\)"):
        create_run_folder(tmp_path / "thesis.tex" / "run", overwrite=overwrite)


def test_what_a_killed_training_left_before_its_run_began_is_taken(tmp_path: Path) -> None:
    for name in ("architecture.json", "classes.json", ".input.json.77.part"):
        (tmp_path / name).touch()
    create_run_folder(tmp_path, overwrite=False)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".architecture.json.77.part").touch()
    create_run_folder(tmp_path, overwrite=False)
    (tmp_path / "classes.json").touch()  # without what is written first it is not ours
    with pytest.raises(RunError, match="holds other files"):
        create_run_folder(tmp_path, overwrite=True)


def test_only_an_unfinished_run_can_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run to resume"):
        resumable_run(tmp_path)
    with pytest.raises(RunError, match="has finished"):
        resumable_run(trained().path)


def test_the_next_free_name(tmp_path: Path) -> None:
    assert next_free_path(tmp_path / "demo").name == "demo"
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo-2").mkdir()
    assert next_free_path(tmp_path / "demo").name == "demo-3"
