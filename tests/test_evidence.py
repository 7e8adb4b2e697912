"""The command behind docs/results.md: its runs, its claims, and its page."""

import argparse
from pathlib import Path

import numpy as np
import pytest
from tests.data.test_published import write_fashion_mnist
from tests.using import benchmark

import hexavit
from hexavit.data import open_source
from hexavit.studies.statistics import Difference, paired
from hexavit.training import TrainConfig

evidence = benchmark("evidence")


def asked(**more: object) -> argparse.Namespace:
    given = {
        "data": "digits",
        "work": Path("runs"),
        "train_images": 100,
        "test_images": None,
        "epochs": 2,
        "threads": 1,
        **more,
    }
    return argparse.Namespace(**given)


def made() -> object:
    return evidence.Evidence(asked())


@pytest.mark.parametrize("name", evidence.RUNS)
def test_the_settings_of_each_run_are_valid(name: str) -> None:
    config = made().config(name, 2)  # type: ignore[attr-defined]
    assert isinstance(config, TrainConfig)
    assert (config.seed, config.epochs, config.train_images) == (2, 2, 100)
    assert config.model in hexavit.list_models("*_nano")
    assert (config.teacher is None) == (config.teacher_cache is None)
    assert "TEACHER" not in str(config)
    assert "MAPS" not in str(config)


def test_a_run_is_trained_tested_and_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(evidence.SETTINGS, "batch_size", 5)
    write_fashion_mnist(tmp_path, packed=True)
    data, work = f"fashion_mnist:{tmp_path}", tmp_path / "work"
    run = evidence.Evidence(asked(data=data, work=work, train_images=10, epochs=1))
    found = run.result("DeiT", 0)
    images = open_source(data)
    predictor = hexavit.load_predictor(work / "10x1" / "DeiT-0", engine="torch")
    predicted = predictor.logits([images.load(number) for number in images.parts["test"]]).argmax(axis=1)
    assert evidence.hits({0: found}, [0]).tolist() == [(predicted == np.arange(10)).tolist()]
    assert run.result("DeiT", 0) == found


def outcome(right: np.ndarray) -> dict[str, object]:
    return {"right": np.packbits(right).tobytes().hex(), "images": len(right), "parameters": 12_345, "seconds": 90.0}


def test_the_page_pairs_results_by_seed_and_image() -> None:
    random = np.random.default_rng(0)
    deit = random.random((3, 2001)) < 0.7
    cvt = deit | (random.random((3, 2001)) < 0.3)
    results = {
        "CvT": {seed: outcome(cvt[seed]) for seed in range(3)},
        "DeiT": {seed: outcome(deit[seed]) for seed in range(3)},
        "Swin": {0: outcome(deit[0])},
    }
    page = evidence.page(made(), results, 0.9)
    percent = deit.mean(axis=1) * 100
    row = f"| DeiT | `deit_nano` | 12,345 | {percent.mean():.2f} % ± {percent.std(ddof=1):.2f} | 3 | 1.5 |"
    assert row in page
    assert "| PVT v2 | `pvt_v2_nano` | | not measured | 0 | |" in page
    found = paired(cvt, deit)
    interval = f"{found.low * 100:+.2f} to {found.high * 100:+.2f}"
    published = "`cvt_13` 81.6%, `deit_small_patch16_224` 79.9%"
    assert f"| CvT > DeiT | {published} | {(cvt.mean() - deit.mean()) * 100:+.2f} | {interval} | agrees |" in page
    assert "| Swin > DeiT |" in page
    assert page.count("not measured") == 6 + 7
    assert "+0.00 | +0.00 to +0.00 | undecided |" in page  # one seed shows no spread


@pytest.mark.parametrize(
    ("low", "high", "margin", "agreement"),
    [
        (0.01, 0.02, 0.0, "agrees"),
        (-0.02, -0.01, 0.0, "disagrees"),
        (-0.01, 0.02, 0.0, "undecided"),
        (-0.02, 0.004, 0.005, "agrees"),
        (0.006, 0.01, 0.005, "disagrees"),
        (-0.01, 0.01, 0.005, "undecided"),
    ],
)
def test_agreement(low: float, high: float, margin: float, agreement: str) -> None:
    claim = evidence.Claim("a", "b", "source", margin)
    assert claim.agreement(Difference((low + high) / 2, low, high, 3)) == agreement
    assert claim.agreement(Difference((low + high) / 2, low, high, 1)) == "undecided"


def test_every_claim_is_of_runs() -> None:
    for claim in evidence.CLAIMS:
        assert {claim.better, claim.than} <= set(evidence.RUNS)
        assert claim.where()
