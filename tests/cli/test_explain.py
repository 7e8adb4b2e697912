"""`hexavit explain`: pictures, a page, and one sentence for what is wrong."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.using import digits_folder, trained

from hexavit.cli import main


def test_a_picture_for_each_image_and_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "images", tmp_path / "seen"
    for name in ("a/x.png", "b/x.png"):
        (folder / name).parent.mkdir(parents=True)
        Image.new("RGB", (40, 30), "red").save(folder / name)
    (folder / "broken.png").write_bytes(b"no image")
    options = ["--method", "attention,gradcam", "--query", "3,4", "--head", "all", "--arrays", "--device", "cpu"]
    assert main(["explain", str(trained().path), str(folder), "--out", str(out), *options]) == 1
    printed = capsys.readouterr()
    assert "1 of 3 images could not be read; the others are done" in printed.err
    assert sorted(path.name for path in out.iterdir()) == ["index.html", "x-2.npz", "x-2.png", "x.npz", "x.png"]
    assert (out / "index.html").read_text().count("data:image/jpeg;base64,") == 2
    maps = np.load(out / "x.npz")
    assert any(name.startswith("gradcam: ") for name in maps)
    with Image.open(out / "x.png") as picture:
        assert picture.width > 2 * 224


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cvt_nano"], "cvt_nano was never trained"),
        (["RUN", "--method", "gradcan"], "there is no method 'gradcan'"),
        (["RUN", "--query", "left"], "--query takes class, mean, auto or a pixel X,Y, not 'left'"),
        (["RUN", "--query", "99,1"], "there is no pixel x=99, y=1"),
        (["RUN", "--head", "first"], "--head takes a number, mean or all, not 'first'"),
        (["RUN", "--head", "77"], "there is no head 77"),
        (["RUN", "--stage", "7"], "there is no stage 7"),
        (["RUN", "--class", "nine"], "there is no class 'nine'"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    given = [str(trained().path) if each == "RUN" else each for each in arguments]
    image = next(path for path in digits_folder().rglob("*.png"))
    assert main(["explain", given[0], str(image), "--out", str(tmp_path / "out"), *given[1:]]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
