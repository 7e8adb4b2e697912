"""Every override of docs/survey.md builds CvT-13 and runs, or is rejected with the words that the page gives."""

from typing import Any

import pytest
import torch
from torch import nn

import hexavit
from hexavit.models import model_entry
from hexavit.models.survey import survey
from hexavit.parts import KINDS, part_names

pytestmark = pytest.mark.usefixtures("one_thread")

TABLE = survey()
ROWS = [(kind, row) for kind in KINDS for row in TABLE[kind]]


@pytest.mark.parametrize(("kind", "row"), ROWS, ids=lambda value: value if isinstance(value, str) else value["what"])
def test_an_override_of_the_survey(kind: str, row: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    if "outside" in row:
        assert not {"set", "part"} & set(row)
        return
    monkeypatch.setattr(nn.init, "trunc_normal_", nn.init.normal_)  # ten times as fast
    depth = 2 if any("blocks.1" in edit for edit in row["set"]) else 1
    edits = [f"stages.2.depth={depth}", f"stages.1.depth={depth}", *row["set"]]  # as many blocks as the edits name
    if "error" in row:
        with pytest.raises(hexavit.HexavitError) as raised:
            hexavit.create_model("cvt_13", img_size=64, num_classes=3, overrides=edits)
        assert row["error"] in str(raised.value)
        return
    model = hexavit.create_model("cvt_13", img_size=64, num_classes=3, overrides=edits).eval()
    with torch.no_grad():
        logits = model(torch.randn(1, 3, 64, 64))
    assert logits.shape == (1, 3)
    assert logits.isfinite().all()
    parts = {part.name for _, at, part in model.architecture.places() if at == kind}
    assert names(kind, row) <= parts
    assert names(kind, row) or row["part"].startswith("inside ")


def test_rows_are_in_the_order_of_the_survey() -> None:
    assert set(TABLE) == {"systems", *KINDS}
    for kind in KINDS:
        places = [TABLE["systems"].index(row["system"]) for row in TABLE[kind]]
        assert places == sorted(places)


def names(kind: str, row: dict[str, Any]) -> set[str]:
    """The parts that a row names."""
    return set(row.get("part", "").replace(",", " ").split()) & set(part_names(kind))


def parts_of(name: str) -> dict[str, set[str]]:
    """The parts of a model, by kind."""
    found: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for _, kind, part in model_entry(name).architecture.places():
        found[kind].add(part.name)
    return found


def test_models_have_the_part_of_their_row() -> None:
    rows = [(kind, row) for kind, row in ROWS if "model" in row and names(kind, row)]
    assert not [(kind, row["what"]) for kind, row in rows if not names(kind, row) & parts_of(row["model"])[kind]]


def test_every_part_of_a_system_of_the_table_has_a_row() -> None:
    named = {kind: set().union(*(names(kind, row) for row in TABLE[kind])) for kind in KINDS}
    families = {model_entry(row["model"]).family for _, row in ROWS if "model" in row}
    models = [name for name in hexavit.list_models() if model_entry(name).family in families]
    assert not [(name, kind) for name in models for kind, used in parts_of(name).items() if used - named[kind]]
