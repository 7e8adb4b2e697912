"""`hexavit export`: from a run to files that predict the same; int8 within a point; one sentence for each error."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from hexavit.cli import main
from hexavit.evaluation.evaluate import evaluate
from hexavit.export import read_description

PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("model.pth", "model.pth: this file is written as .onnx or .xml or .pt2, not as '.pth'"),
        ("there.onnx", "there.onnx: this already exists; pass --overwrite to replace it"),
        ("model.onnx --int8", "--int8 and --calibrate DATA go together"),
        ("model.onnx --int8 --calibrate digits --half", "--int8 does not go with --half"),
        ("model.onnx --untrained --dynamic depth", "dynamic axes are batch and size, not 'depth'"),
        ("model.pt2 --untrained --int8 --calibrate digits", "model.pt2: int8 is for .onnx and .xml, not for .pt2"),
    ],
)
def test_errors_are_one_sentence(
    options: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.onnx").touch()
    assert main(["export", "deit_nano", *options.split()]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {sentence}"
    assert [file.name for file in tmp_path.iterdir()] == ["there.onnx"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the first commands of the page "Deploy" ran."""
    place = tmp_path_factory.mktemp("deploy")
    Image.fromarray((load_digits().images[0] * 15).astype(np.uint8)).save(place / "digit.png")
    block = re.search(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(place)
        for line in block[1].splitlines():
            words = line.partition("#")[0].split()
            assert words[0] == "pip" or main(words[1:]) == 0, line
    return place


@pytest.mark.slow
def test_the_page_deploy_gives_three_files_that_predict_as_the_run(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def evaluated(source: str) -> object:
        assert main(["evaluate", source, "--data", "digits", "--part", "all", "--json", "--engine", "auto"]) == 0
        found = json.loads(capsys.readouterr().out)
        return found["accuracy"], found["confused"], found["count"]

    right = evaluated(str(trained / "runs" / "digits"))
    for ending in (".onnx", ".xml", ".pt2"):
        assert evaluated(str(trained / f"digits{ending}")) == right


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".onnx", ".xml"])
def test_int8_loses_at_most_a_point(ending: str, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = trained / f"int8{ending}"
    command = ["export", str(trained / "runs" / "digits"), str(out), "--int8", "--calibrate", "digits"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    before, after = found["accuracy"]
    assert before - after <= 0.01
    assert found["calibration_images"] == 300
    assert found["images"] == 359  # the validation images of the run
    assert found["bytes"][1] < 0.6 * found["bytes"][0]
    assert read_description(out).precision == "int8"
    assert evaluate(str(out), "digits", part="all").accuracy > 0.85
    assert main([*command, "--overwrite"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"accuracy   \d+\.\d\d% in float32, \d+\.\d\d% in int8 \((nothing|\d\.\d\d points) lost\)", text)


@pytest.mark.slow
def test_int8_without_labels_states_the_agreement(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (trained / "unlabelled").mkdir()
    for i, image in enumerate(load_digits().images[:20]):
        Image.fromarray((image * 15).astype(np.uint8)).save(trained / "unlabelled" / f"{i}.png")
    command = ["export", str(trained / "runs" / "digits"), str(trained / "other.onnx"), "--int8", "--json"]
    assert main([*command, "--calibrate", str(trained / "unlabelled")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["accuracy"], found["images"], found["calibration_images"]) == (None, 10, 10)
    assert found["agreement"] >= 0.8
