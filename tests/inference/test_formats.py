import csv
import io
import json
from pathlib import Path

import pytest

from hexavit.inference import Prediction
from hexavit.inference.formats import Format, Rows, format_of

FOUND = [
    Prediction(Path("a.jpg"), (("sea, deep", 0.75), ("land", 0.25))),
    Prediction(Path("long\nname.jpg"), (("land", 2 / 3), ("sea, deep", 1 / 3))),
]


def written(kind: Format, found: list[Prediction]) -> str:
    file = io.StringIO()
    rows = Rows(kind, file)
    for each in found:
        rows.write(each)
    rows.close()
    return file.getvalue()


def test_a_table_is_aligned() -> None:
    assert written("table", FOUND).splitlines() == [
        "image           class             then",
        "a.jpg           sea, deep 75.00%  land 25.00%",
        "long\\nname.jpg  land 66.67%       sea, deep 33.33%",
    ]
    assert len(written("table", FOUND * 60).splitlines()) == 121


def test_csv_is_read_back() -> None:
    rows = list(csv.DictReader(io.StringIO(written("csv", FOUND), newline="")))
    assert [row["image"] for row in rows] == ["a.jpg", "long\nname.jpg"]
    assert rows[0]["class_1"] == "sea, deep"
    assert float(rows[1]["probability_2"]) == pytest.approx(1 / 3, abs=1e-6)


def test_json_lines_are_read_back() -> None:
    assert [json.loads(line) for line in written("jsonl", FOUND).splitlines()] == [each.as_dict() for each in FOUND]


@pytest.mark.parametrize("kind", ["table", "csv", "jsonl"])
def test_nothing_found_is_nothing_written(kind: Format) -> None:
    assert written(kind, []) == ""


def test_the_suffix_sets_the_format() -> None:
    assert [format_of(Path(name)) for name in ("a.CSV", "b.jsonl", "c.json", "d.txt")] == [
        "csv",
        "jsonl",
        "jsonl",
        "table",
    ]
