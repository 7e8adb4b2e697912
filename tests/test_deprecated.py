"""Old import paths and names work for one release, with a warning that names the new ones."""

import importlib
import sys
import warnings

import pytest

from hexavit import _deprecated


@pytest.mark.parametrize("old", sorted(_deprecated.MOVED))
def test_a_moved_module_is_found_under_its_old_path(old: str) -> None:
    with warnings.catch_warnings():  # of a package that moved too
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module(old.rpartition(".")[0])
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=_deprecated.MOVED[old]):
        module = importlib.import_module(old)
    assert module is importlib.import_module(_deprecated.MOVED[old])
    assert module.__name__ == _deprecated.MOVED[old]


def test_a_submodule_moves_with_its_package() -> None:
    assert _deprecated.new_path("hexavit.training.data.split") == "hexavit.data.split"
    assert _deprecated.new_path("hexavit.training.trainer") is None


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("hexavit.inference", "Ready", "LoadedModel"),
        ("hexavit.inference", "open_model", "load_model"),
        ("hexavit.inference", "start_from", "load_starting_weights"),
        ("hexavit.training.auto_config.rules", "choose", "choose_settings"),
        ("hexavit.training.auto_config.rules", "Situation", "Facts"),
        ("hexavit.training.objectives.losses", "EveryAnswer", "MeanCrossEntropy"),
        ("hexavit.training.auto_config.facts", "look", "gather_facts"),
        ("hexavit.evaluation.evaluate", "judge", "evaluate_with_predictions"),
        ("hexavit.evaluation.evaluate", "Judged", "DetailedEvaluation"),
    ],
)
def test_a_renamed_object_is_found_under_its_old_name(module: str, old: str, new: str) -> None:
    home = importlib.import_module(module)
    with pytest.warns(DeprecationWarning, match=new):
        found = getattr(home, old)
    assert found is getattr(home, new)
