"""The benchmark of maps: its scenes have one digit at the place that it says, and its script and example run."""

import runpy
from pathlib import Path

import pytest
import torch
from tests.using import benchmark

ROOT = Path(__file__).parents[2]
explain = benchmark("explain")


def test_a_scene_has_its_digit_where_it_says() -> None:
    scenes = explain.Scenes(test=True, seed=0)
    images, labels, corners = scenes.batch(8)
    for image, label, (y, x) in zip(images, labels, corners.tolist(), strict=True):
        inside = (image[0, y : y + explain.DIGIT, x : x + explain.DIGIT] + 1) / 2
        small = torch.nn.functional.interpolate(inside[None, None], (8, 8), mode="area")[0, 0]
        distances = (scenes.digits - (small - 0.15) / 0.85).square().sum(dim=(1, 2))
        assert scenes.labels[distances.argmin()] == label


def test_digits_of_test_scenes_are_not_trained_on() -> None:
    train, test = explain.Scenes(test=False, seed=0).digits, explain.Scenes(test=True, seed=0).digits
    assert not (train[:, None] == test[None]).flatten(2).all(dim=2).any()


@pytest.mark.slow
def test_the_example_writes_a_page(tmp_path: Path) -> None:
    main = runpy.run_path(str(ROOT / "examples" / "explain.py"))["main"]
    main(tmp_path / "seen", steps=2)
    assert sorted(path.name for path in (tmp_path / "seen").iterdir()) == ["distances.png", "index.html"]


@pytest.mark.slow
def test_the_benchmark_writes_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- explain: table -->\n<!-- explain: end -->\nafter\n")
    options = ["--steps", "2", "--scenes", "1", "--families", "CvT", "--write", str(page), "--pictures", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["explain.py", *options])
    explain.main()
    assert "| CvT (`cvt_nano`) |" in page.read_text()
    assert (tmp_path / "explain-cvt_nano.png").stat().st_size > 1000
