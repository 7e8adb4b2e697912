"""Distillation with a cache of the teacher's outputs: the weights are those without it, also after a kill."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.killing import kill, whole
from tests.using import digits_folder, silent, tiny, trained

from hexavit.teachers import Teacher
from hexavit.training import train

SETTINGS = {"model": "cvt_nano", "overrides": ["stages.*.depth=1"], "augment": "crop", "distillation": "soft"}


@pytest.mark.usefixtures("one_thread")
def test_a_second_run_computes_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    logits = Teacher._logits

    def counted(self: Teacher, images: torch.Tensor) -> torch.Tensor:
        computed.append(len(images))
        return logits(self, images)

    monkeypatch.setattr(Teacher, "_logits", counted)
    settings = {**SETTINGS, "teacher": str(trained().path), "epochs": 1}
    weights = []
    for name in ("plain", "first", "second"):
        cached = {} if name == "plain" else {"teacher_cache": str(tmp_path / "cache")}
        run = train(tiny(digits_folder(), **settings, **cached), tmp_path / name, console=silent()).run
        weights.append(run.weights("last").read_bytes())
    assert weights[0] == weights[1] == weights[2]
    assert computed == [8] * 3 * 2  # three steps without the cache, and three in the first run with it


@pytest.mark.slow
@pytest.mark.parametrize("place", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_killed_run_has_the_weights_of_an_uninterrupted_one(tmp_path: Path, place: float) -> None:
    settings: dict[str, Any] = {
        **{"data": str(digits_folder()), "epochs": 2, "batch_size": 8, "img_size": 32, "workers": 1, "device": "cpu"},
        **{**SETTINGS, "teacher": str(trained().path), "save_every": 0.0},
    }
    cache = tmp_path / "cache"
    settings["teacher_cache"] = str(cache)
    moments = whole(settings, tmp_path / "whole")
    cache.rename(tmp_path / "cache of the whole run")
    killed = kill(settings, tmp_path / "run", tmp_path / "whole", 1 + int(place * len(moments)))
    assert killed.identical, killed
    rows = []
    for folder in (cache, tmp_path / "cache of the whole run"):
        with sqlite3.connect(folder / "outputs.sqlite") as file:
            rows.append(file.execute("SELECT key, row FROM outputs ORDER BY key").fetchall())
        file.close()
    assert len(rows[0]) == 48
    assert rows[0] == rows[1]
