import shutil
from pathlib import Path

import pytest
import torch
from tests.using import CLASSES, trained

from hexavit.errors import RunError
from hexavit.inference import Run


def test_a_run_is_read_back() -> None:
    run = Run.open(trained().path)
    model = run.model()
    assert run.classes() == CLASSES
    assert not model.training
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


def test_the_model_is_read_without_the_checkpoint(tmp_path: Path) -> None:
    copy = Run(shutil.copytree(trained().path, tmp_path / "run"))
    copy.checkpoint.write_bytes(b"anything")
    copy.model()


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [("config.yaml", "not a run folder"), ("weights", "no weights yet"), (".", "no such run folder")],
)
def test_another_folder_than_a_run_is_an_error(tmp_path: Path, missing: str, sentence: str) -> None:
    copy = Run(shutil.copytree(trained().path, tmp_path / "run"))
    gone = copy.path / missing
    gone.unlink() if gone.is_file() else shutil.rmtree(gone)
    with pytest.raises(RunError, match=sentence):
        Run.open(copy.path)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    copy = Run(shutil.copytree(trained().path, tmp_path / "run"))
    copy.classes_file.write_text("[")
    copy.weights("best").write_bytes(b"\x00" * 100)
    with pytest.raises(RunError, match=r"classes\.json: this file of the run is damaged"):
        copy.classes()
    with pytest.raises(RunError, match=r"best\.safetensors: these weights cannot be loaded"):
        copy.model()
