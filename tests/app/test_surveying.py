from hexavit.app import surveying
from hexavit.models import model_entry
from hexavit.models.survey import survey
from hexavit.parts.registry import KINDS


def test_all_rows_without_a_filter() -> None:
    assert len(surveying.filtered()) == sum(len(survey()[kind]) for kind in KINDS)


def test_each_filter() -> None:
    assert {row.system for row in surveying.filtered(system="CvT")} == {"CvT"}
    assert {row.kind for row in surveying.filtered(kind="head")} == {"head"}
    assert all("window" in row.part for row in surveying.filtered(part="window"))
    small = surveying.filtered(size="up to 6 M")
    assert small
    assert all(row.parameters is not None and row.parameters <= 6e6 for row in small)
    free = surveying.filtered(licence="mit")
    assert free
    assert all("mit" in {weight.license for weight in model_entry(row.model).weights} for row in free)
    assert {row.system for row in surveying.filtered(words="SOFT split")} == {"T2T-ViT"}
    assert surveying.filtered(system="CvT", kind="tokens", words="no such words") == []


def test_every_value_of_a_menu_finds_a_row() -> None:
    for name in ("system", "kind", "part", "size", "licence"):
        for value in surveying.menu(name):
            assert surveying.filtered(**{name: value}), (name, value)
