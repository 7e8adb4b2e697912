"""The benchmarks cover every system, and write the files that they name."""

from pathlib import Path

import pytest
import timm
import torch
from tests.using import benchmark

import hexavit
from hexavit.benchmarking.peers import build
from hexavit.models import LAYOUTS, model_entry
from hexavit.training import TrainConfig

peers, digits = benchmark("peers"), benchmark("digits")
RESULTS = Path(__file__).parent.parent / "docs" / "digits.md"


def families(names: tuple[str, ...]) -> set[str]:
    return {model_entry(name).family for name in names}


def test_every_system_of_timm_and_transformers_is_measured() -> None:
    # Another test of the same process may have registered hexavit's models with timm.
    theirs = {name for name in timm.list_models() if timm.model_entrypoint(name).__module__.startswith("timm.")}
    in_timm = {model_entry(name).family for name in set(hexavit.list_models()) & theirs}
    assert families(peers.TIMM) >= in_timm
    assert families(peers.TRANSFORMERS) >= {layout.family for layout in LAYOUTS if layout.config}


@pytest.mark.parametrize("library", peers.PEERS)
def test_both_sides_are_the_same_model(library: str) -> None:
    for name in peers.PEERS[library]:
        with torch.device("meta"):
            own = hexavit.create_model(name)
            made = build(library, name, own.architecture.img_size)
            theirs = getattr(made, "model", made).state_dict()  # transformers' model inside ours of its logits
        report = hexavit.load_checkpoint(own, {k: torch.zeros(()).expand(t.shape) for k, t in theirs.items()})
        assert (report.missing, report.left_over) == ({}, {})


def test_options_are_passed_on_for_each_library(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(peers, "hexavit", lambda argv: calls.append(argv) or 0)
    names = ["cvt_13", "pvt_v2_b0"]
    assert peers.compare("", peers.PEERS, ["--train"], ["--models", *names, "--rounds", "2"]) == 0
    assert calls == [
        ["benchmark", "pvt_v2_b0", "--against", "timm", "--train", "--rounds", "2"],
        ["benchmark", *names, "--against", "transformers", "--train", "--rounds", "2"],
    ]


def test_every_small_member_has_settings_that_make_sense() -> None:
    nanos = hexavit.list_models("*_nano")
    assert set(digits.OTHERS) <= set(nanos)
    for name in nanos:
        assert TrainConfig.from_mapping(digits.settings(name)).model == name


def test_a_row_of_the_results_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    found = {"pixels": 32, "parameters": 1234, "macs": 5_600_000, "accuracy": 0.9721, "seconds": 61.2}
    path = tmp_path / "digits.md"
    rows = {name: digits.row({"model": name, **found}) for name in ("deit_nano", "cvt_nano")}
    path.write_text(digits.page(rows, 0, 2), encoding="utf-8")
    assert digits.rows_of(path) == rows
    assert "| `cvt_nano` | 32 | 1,234 | 5.6 M | 97.2% | 61 |" in path.read_text()


def test_the_page_of_results_is_of_models_that_are_there() -> None:
    assert set(digits.rows_of(RESULTS)) <= set(hexavit.list_models("*_nano"))
