"""The benchmark against other libraries leaves out no system that they have."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import timm
import torch

import hexavit
from hexavit.models import LAYOUTS, model_entry

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("peers", FOLDER / "peers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules.pop("measure", None)
    return module


def families(names: tuple[str, ...]) -> set[str]:
    return {model_entry(name.partition(":")[0]).family for name in names}


def test_every_system_of_timm_and_transformers_is_measured(peers: ModuleType) -> None:
    in_timm = {model_entry(name).family for name in set(hexavit.list_models()) & set(timm.list_models())}
    assert families(peers.TIMM) >= in_timm
    assert families(peers.TRANSFORMERS) >= {layout.family for layout in LAYOUTS if layout.config}


@pytest.mark.parametrize("library", ["timm", "transformers"])
def test_both_sides_are_the_same_model(peers: ModuleType, library: str) -> None:
    for name in peers.PEERS[library]:
        with torch.device("meta"):
            theirs = peers.BUILDERS[library](name).state_dict()
            own = hexavit.create_model(name.partition(":")[0])
        report = hexavit.load_checkpoint(own, {k: torch.zeros(t.shape) for k, t in theirs.items()})
        assert (report.missing, report.left_over) == ({}, {})
