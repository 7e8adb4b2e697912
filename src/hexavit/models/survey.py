"""The survey of mechanisms as data: column by column, what each system chose, and the edit that puts it into CvT-13."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def survey() -> dict[str, Any]:
    """``survey.yaml``: the rows of each kind of part, and under ``systems`` the order of the systems."""
    table: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "survey.yaml").read_text(encoding="utf-8"))
    return table
