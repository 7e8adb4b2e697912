"""Run the contract tests on every registered model."""

from tests.models.contract import ModelContract, every_model, modules_defined_in

import hexavit


class TestEveryModel(ModelContract):
    cases = tuple(every_model())


def test_every_name_is_tested() -> None:
    assert sorted(name for case in TestEveryModel.cases for name in case.names) == sorted(hexavit.list_models())


def test_model_files_hold_data_alone() -> None:
    assert modules_defined_in("hexavit.models") == []
    assert "mlp.py: MLP" in modules_defined_in("hexavit.parts")
